"""`/v1/feedback` over HTTP: durable answers, pages as the openai SDK turns them, and every error in the envelope."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI, NotFoundError
from sqlalchemy import func, select

from gateway.access.authenticate import Authenticator
from gateway.access.secrets import Secrets
from gateway.contracts.ids import COMPLETION, mint
from gateway.contracts.message import Message
from gateway.feedback.batch import VoteBatch
from gateway.feedback.capture import FeedbackCapture
from gateway.feedback.pace import VotePace
from gateway.routes import feedback
from gateway.routes.cross_origin import allow_votes_from_pages
from gateway.routes.errors import install_error_handlers
from gateway.settings import FeedbackSettings, Settings
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from gateway.storage.group_commit import GroupCommit
from gateway.storage.migrate import migrate
from gateway.storage.tables import Alias, ApiKey, Project
from gateway.telemetry.metrics import Metrics

SECRETS = {
    "sk-voter-0000000000": ["feedback", "feedback:write_text", "feedback:read"],
    "sk-narrow-000000000": ["feedback"],
    "sk-silent-000000000": ["inference"],
    "sk-admin-0000000000": ["admin"],
}
PROMPT = [Message(role="user", content="Is it safe?")]


def as_key(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def completion(text: str, **columns: Any) -> Completion:
    return Completion(
        **{
            "id": mint(COMPLETION),
            "project_id": "proj_1",
            "key_id": "key_1",
            "alias": "assistant",
            "release_id": "rel_1",
            "status": "finished",
            "messages": [message.model_dump(mode="json", exclude_none=True) for message in PROMPT],
            "parameters": {},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {},
            "created_at": time.time(),
            "total_seconds": 1.0,
            "call_metadata": {},
        }
        | columns
    )


async def furnish(database: Database) -> None:
    """A project with an alias, keys and two completions, `chatcmpl-yes` and `chatcmpl-no`."""
    async with database.write() as session:
        session.add(Project(id="proj_1", name="one", created_at=1.0))
        await session.flush()
        session.add(
            Alias(
                name="assistant",
                project_id="proj_1",
                base_release_id="rel_1",
                serving_release_id="rel_1",
                created_at=1.0,
                updated_at=1.0,
            )
        )
        for number, (secret, scopes) in enumerate(SECRETS.items()):
            session.add(
                ApiKey(
                    id=f"key_{number}",
                    project_id="proj_1",
                    name=f"k{number}",
                    secret_sha256=keys.sha256_of(secret),
                    scopes=scopes,
                    created_at=1.0,
                )
            )
        session.add_all([completion("Yes.", id="chatcmpl-yes"), completion("No.", id="chatcmpl-no")])


def build_app(database: Database, settings: Settings | None = None, worker_id: str = "gw_1") -> FastAPI:
    settings = settings or Settings(feedback=FeedbackSettings(completion_wait_seconds=0.2))
    app = FastAPI()
    allow_votes_from_pages(app, settings.server.cors_origins)
    install_error_handlers(app)
    app.include_router(feedback.router)
    secrets = Secrets("root")
    app.state.services = SimpleNamespace(
        database=database,
        votes=GroupCommit(database, "durable"),
        vote_pace=VotePace(settings.feedback, 1),
        vote_batch=VoteBatch(FeedbackCapture(settings.feedback, secrets)),
        settings=settings,
        secrets=secrets,
        authenticator=Authenticator(database),
        metrics=Metrics(),
        sync=SimpleNamespace(worker_id=worker_id),
    )
    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=as_key("sk-voter-0000000000"))


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    await furnish(database)
    app = build_app(database)
    async with client_of(app) as client:
        yield client
    await app.state.services.votes.close()


def preference(chosen: str = "chatcmpl-yes", rejected: str = "chatcmpl-no", **fields: Any) -> dict[str, Any]:
    refs = {"chosen": {"completion_id": chosen}, "rejected": [{"completion_id": rejected}]}
    return {"type": "preference", "verdict": "prefer"} | refs | fields


async def stored(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(Feedback)) or 0


async def test_a_new_vote_is_201_and_the_same_again_200_with_the_same_body(client: httpx.AsyncClient) -> None:
    first = await client.post("/v1/feedback", json=preference())
    again = await client.post("/v1/feedback", json=preference())
    changed = await client.post("/v1/feedback", json=preference("chatcmpl-no", "chatcmpl-yes"))
    assert [answer.status_code for answer in (first, again, changed)] == [201, 200, 200]
    assert again.json() == first.json()
    assert (changed.json()["id"], changed.json()["revision"]) == (first.json()["id"], 2)
    shown = await client.get(f"/v1/feedback/{first.json()['id']}")
    assert (shown.status_code, shown.json()) == (200, changed.json())


async def test_fifty_identical_votes_at_once_make_one_record(client: httpx.AsyncClient, database: Database) -> None:
    answers = await asyncio.gather(*(client.post("/v1/feedback", json=preference()) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    assert len({answer.text for answer in answers}) == 1
    assert await stored(database) == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "invalid_json"),
        (b"", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b'{"type":"preference","comment":"\\ud800"}', "invalid_json"),
        (b'{"type":NaN}', "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"type":"praise"}', "unsupported_type"),
        (b'{"type":"preference","comment":"\\u0000"}', "invalid_value"),
        (b'{"type":"pair","pairs":' + b"[" * 300 + b"]" * 300 + b"}", "invalid_value"),
        (b"[" * 100_000, "invalid_json"),
    ],
)
async def test_a_bad_body_is_a_400_in_the_envelope(client: httpx.AsyncClient, content: bytes, code: str) -> None:
    answer = await client.post("/v1/feedback", content=content)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (400, code, "invalid_request_error")
    assert error.keys() == {"message", "type", "param", "code"}


async def test_a_mistake_is_named_with_its_place(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/feedback", json=preference(chosen="x" * 300))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "chosen.completion_id")
    assert "at most 256 characters" in error["message"]


async def test_bad_rows_of_a_batch_are_listed_by_line(client: httpx.AsyncClient, database: Database) -> None:
    row = {
        "input": {"messages": [{"role": "user", "content": "Hi"}]},
        "preferred_output": [{"role": "assistant", "content": "same"}],
        "non_preferred_output": [{"role": "assistant", "content": "other"}],
    }
    bad = row | {"non_preferred_output": row["preferred_output"]}
    head = {"type": "pair", "source": "crm", "licence": "internal"}
    answer = await client.post("/v1/feedback", json=head | {"pairs": [row, bad]})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_pairs")
    assert [(detail["line"], detail["code"]) for detail in error["details"]] == [(2, "identical_outputs")]
    assert await stored(database) == 0
    answer = await client.post("/v1/feedback", json=head | {"pairs": [row]})
    assert (answer.status_code, answer.json()["object"], await stored(database)) == (201, "list", 1)


async def test_keys_and_scopes_bound_what_a_caller_may_do(client: httpx.AsyncClient, database: Database) -> None:
    correction = {"type": "correction", "target": {"completion_id": "chatcmpl-no"}, "message": {"content": "Yes."}}
    cases = [
        ("sk-unknown-00000000", preference(), 401),
        ("sk-silent-000000000", preference(), 403),
        ("sk-narrow-000000000", correction, 403),
        ("sk-narrow-000000000", preference(rater={"id": "ann"}), 403),
    ]
    for secret, body, status in cases:
        answer = await client.post("/v1/feedback", json=body, headers=as_key(secret))
        assert answer.status_code == status, answer.text
    assert (await client.get("/v1/feedback", headers=as_key("sk-narrow-000000000"))).status_code == 403
    assert await stored(database) == 0
    answer = await client.post("/v1/feedback", json=correction, headers=as_key("sk-narrow-000000000"))
    assert "`feedback:write_text`" in answer.json()["error"]["message"]


async def test_a_vote_during_the_stream_waits_for_its_completion(client: httpx.AsyncClient, database: Database) -> None:
    vote = asyncio.create_task(client.post("/v1/feedback", json=preference("chatcmpl-late")))
    await asyncio.sleep(0.05)
    async with database.write("relaxed") as session:
        session.add(completion("Sure.", id="chatcmpl-late"))
    assert (await vote).status_code == 201


async def test_a_vote_on_nothing_is_a_404(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/feedback", json=preference("chatcmpl-never"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "completion_not_stored")


async def test_a_retracted_vote_is_shown_as_such(client: httpx.AsyncClient) -> None:
    vote = (await client.post("/v1/feedback", json=preference())).json()
    answer = await client.delete(f"/v1/feedback/{vote['id']}")
    assert (answer.status_code, answer.json()) == (
        200,
        {"id": vote["id"], "object": "feedback.deleted", "deleted": True},
    )
    shown = (await client.get(f"/v1/feedback/{vote['id']}")).json()
    assert shown["status"] == "retracted"
    assert [(pair["state"], pair["reason"]) for pair in shown["pairs"]] == [("excluded", "retracted")]


@pytest.mark.parametrize("feedback_id", ["fb_unknown", "nonsense", "fb_%00", "%F0%9F%98%80"])
async def test_an_unknown_id_is_a_404(client: httpx.AsyncClient, feedback_id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await client.request(method, f"/v1/feedback/{feedback_id}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "feedback_not_found")


async def test_the_list_is_turned_page_by_page(client: httpx.AsyncClient, database: Database) -> None:
    ids = []
    for number in range(5):
        async with database.write() as session:
            session.add(completion("Hm.", id=f"chatcmpl-{number}"))
        vote = await client.post("/v1/feedback", json=preference(rejected=f"chatcmpl-{number}"))
        ids.append(vote.json()["id"])
    first = (await client.get("/v1/feedback?limit=2")).json()
    assert [vote["id"] for vote in first["data"]] == [ids[4], ids[3]]
    assert (first["object"], first["first_id"], first["last_id"], first["has_more"]) == ("list", ids[4], ids[3], True)
    rest = (await client.get(f"/v1/feedback?limit=3&after={first['last_id']}")).json()
    assert ([vote["id"] for vote in rest["data"]], rest["has_more"]) == ([ids[2], ids[1], ids[0]], False)
    upwards = (await client.get(f"/v1/feedback?order=asc&after={ids[2]}")).json()
    assert [vote["id"] for vote in upwards["data"]] == [ids[3], ids[4]]
    assert [vote["pairs"][0]["state"] for vote in rest["data"]] == ["eligible"] * 3
    assert upwards["data"][0]["pairs"][0]["reason"] == "pair_limit"


async def test_the_list_is_filtered(client: httpx.AsyncClient, database: Database) -> None:
    async with database.write() as session:
        session.add(completion("Hm.", id="chatcmpl-hm"))
    bodies = [
        preference(metadata={"app": "desk", "键": "值"}),
        preference(rejected="chatcmpl-hm", rater={"id": "ann"}),
        {"type": "rating", "target": {"completion_id": "chatcmpl-hm"}, "name": "thumbs", "value": True},
    ]
    votes = [
        (await client.post("/v1/feedback", json=body, headers=as_key("sk-admin-0000000000"))).json() for body in bodies
    ]
    first, second, third = (vote["id"] for vote in votes)
    assert (await client.delete(f"/v1/feedback/{third}", headers=as_key("sk-admin-0000000000"))).status_code == 200
    for query, expected in [
        ({"type": "preference"}, [first, second]),
        ({"type": "rating"}, [third]),
        ({"status": "retracted"}, [third]),
        ({"rater": "ann"}, [second]),
        ({"rater": votes[1]["rater"]["id_hash"]}, [second]),
        ({"completion_id": "chatcmpl-hm"}, [second, third]),
        ({"completion_id": "chatcmpl-h"}, []),
        ({"metadata[app]": "desk"}, [first]),
        ({"metadata[键]": "值"}, [first]),
        ({"metadata[app]": "other"}, []),
        ({"created_after": 1.0, "type": "rating"}, [third]),
        ({"created_before": 1.0}, []),
        ({"completion_id": "chatcmpl-hm", "limit": 1}, [second]),
        ({"completion_id": "chatcmpl-hm", "after": second}, [third]),
    ]:
        answer = await client.get("/v1/feedback", params={"order": "asc"} | query)
        assert [vote["id"] for vote in answer.json()["data"]] == expected, query


async def test_a_vote_is_updated_by_post(client: httpx.AsyncClient) -> None:
    vote = (await client.post("/v1/feedback", json=preference())).json()
    answer = await client.post(f"/v1/feedback/{vote['id']}", json={"verdict": "tie", "comment": "on second thought"})
    assert (answer.status_code, answer.json()["revision"], answer.json()["pairs"]) == (200, 2, [])
    assert (await client.post("/v1/feedback/fb_unknown", json={"comment": "x"})).status_code == 404
    assert (await client.post(f"/v1/feedback/{vote['id']}", json={"comment": "\0"})).status_code == 400


async def test_a_list_nobody_voted_in_is_empty(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/feedback")).json()
    assert answer == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 400),
        ("limit=101", 400),
        ("order=up", 400),
        ("after=x", 400),
        ("after=fb_0", 404),
        ("typ=rating", 400),
        ("created_after=soon", 400),
        ("completion_id=%00", 400),
        ("metadata[a]=%00", 400),
    ],
)
async def test_a_bad_page_is_refused(client: httpx.AsyncClient, query: str, status: int) -> None:
    assert (await client.get(f"/v1/feedback?{query}")).status_code == status


async def test_the_openai_sdk_votes_without_a_package_of_ours(client: httpx.AsyncClient) -> None:
    sdk = AsyncOpenAI(api_key="sk-voter-0000000000", base_url="http://gateway/v1", http_client=client)
    reply = await sdk.post("/feedback", body=preference(), cast_to=dict[str, Any])
    assert reply["pairs"][0]["state"] == "eligible"
    with pytest.raises(NotFoundError) as caught:
        await sdk.post("/feedback", body=preference("chatcmpl-never"), cast_to=dict[str, Any])
    assert caught.value.code == "completion_not_stored"


@pytest.fixture
async def sqlite(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A furnished SQLite database that gives up on a lock after a moment."""
    monkeypatch.setattr("gateway.storage.database.SQLITE_BUSY_SECONDS", 0.1)
    database = Database(sqlite_url)
    await migrate(database)
    await furnish(database)
    yield database
    await database.close()


async def test_a_locked_database_is_a_503_and_never_a_false_success(sqlite: Database, tmp_path: Path) -> None:
    stranger = sqlite3.connect(tmp_path / "alignway.db", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    app = build_app(sqlite)
    async with client_of(app) as client:
        locked = await client.post("/v1/feedback", json=preference())
        assert (locked.status_code, locked.json()["error"]["code"]) == (503, "database_unavailable")
        assert int(locked.headers["retry-after"]) >= 1
        assert await stored(sqlite) == 0
        stranger.rollback()
        stranger.close()
        assert (await client.post("/v1/feedback", json=preference())).status_code == 201
    await app.state.services.votes.close()


async def test_a_full_disk_is_a_503_and_never_a_false_success(sqlite: Database) -> None:
    app = build_app(sqlite)
    async with client_of(app) as client, sqlite.engine("durable").connect() as connection:
        # SQLite's own limit answers as a full disk does: SQLITE_FULL. It holds for one connection, so it is given back.
        await connection.exec_driver_sql("PRAGMA max_page_count=1")
        await connection.close()
        statuses = []
        for number in range(40):
            async with sqlite.write("relaxed") as session:
                session.add(completion("Hm.", id=f"chatcmpl-{number}"))
            body = preference(rejected=f"chatcmpl-{number}", comment="x" * 4000)
            statuses.append((await client.post("/v1/feedback", json=body)).status_code)
        assert set(statuses) <= {201, 503}
        assert 503 in statuses
        assert await stored(sqlite) == statuses.count(201)
    await app.state.services.votes.close()


async def test_with_redaction_before_storage_no_free_text_of_a_vote_is_stored_as_it_came(database: Database) -> None:
    await furnish(database)
    app = build_app(database)
    app.state.services.settings = Settings.model_validate({"privacy": {"redaction": "before_storage"}})
    body = {
        "type": "correction",
        "target": {"completion_id": "chatcmpl-yes"},
        "message": {"role": "assistant", "content": "打13800138000, or write to amy@example.org"},
        "comment": "我的号码是138-0013-8000",
    }
    async with client_of(app) as client:
        answer = await client.post("/v1/feedback", json=body)
    await app.state.services.votes.close()
    assert answer.status_code == 201
    async with database.read() as session:
        vote = (await session.scalars(select(Feedback))).one()
        pair = (await session.scalars(select(PairRow))).one()
    assert vote.body["comment"] == "我的号码是[PHONE_1]"
    assert pair.body["chosen"]["message"]["content"] == "打[PHONE_1], or write to [EMAIL_1]"
