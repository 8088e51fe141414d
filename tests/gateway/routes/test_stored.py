"""Stored completions over HTTP, on both databases: the openai SDK's own client lists, shows, tags and deletes them."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI, BadRequestError, NotFoundError, PermissionDeniedError
from openai.types.chat import ChatCompletion

from gateway.access.authenticate import Authenticator
from gateway.contracts.ids import COMPLETION, mint, ulid
from gateway.routes import stored
from gateway.routes.errors import install_error_handlers
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion
from gateway.storage.tables import Alias, ApiKey, Project, ReleaseRow
from gateway.telemetry.metrics import Metrics

OURS, THEIRS, SILENT = "sk-ours-0000000000", "sk-theirs-00000000", "sk-silent-00000000"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def completion(number: int, **columns: Any) -> Completion:
    message = {"role": "assistant", "content": f"answer {number}"}
    return Completion(
        **{
            "id": mint(COMPLETION),
            "project_id": "proj_1",
            "key_id": "key_0",
            "alias": "assistant",
            "release_id": "rel_1",
            "status": "finished",
            "messages": [{"role": "user", "content": f"question {number}"}],
            "parameters": {},
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": USAGE,
            "created_at": 1_700_000_000.0 + number,
            "total_seconds": 1.0,
            "call_metadata": {},
        }
        | columns
    )


async def furnish(database: Database) -> None:
    async with database.write() as session:
        session.add_all([Project(id=f"proj_{n}", name=f"p{n}", created_at=1.0) for n in (1, 2)])
        await session.flush()
        for number, (secret, scopes) in enumerate({OURS: "inference", THEIRS: "inference", SILENT: "feedback"}.items()):
            session.add(
                ApiKey(
                    id=f"key_{number}",
                    project_id="proj_2" if secret == THEIRS else "proj_1",
                    name=f"k{number}",
                    secret_sha256=keys.sha256_of(secret),
                    scopes=[scopes],
                    created_at=1.0,
                )
            )
        alias = {"project_id": "proj_1", "base_release_id": "rel_1", "serving_release_id": "rel_1"}
        session.add(Alias(name="assistant", created_at=1.0, updated_at=1.0, **alias))
        await session.flush()
        for number in (1, 2):
            session.add(
                ReleaseRow(
                    id=f"rel_{number}",
                    alias="assistant",
                    name=f"assistant-20261123-{number}",
                    kind="base",
                    state="published",
                    location="",
                    manifest={},
                    created_at=1.0,
                )
            )


@pytest.fixture
async def app(database: Database) -> FastAPI:
    await furnish(database)
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(stored.router)
    authenticator = Authenticator(database)
    app.state.services = SimpleNamespace(
        database=database, settings=Settings(), authenticator=authenticator, metrics=Metrics()
    )
    return app


def client_as(app: FastAPI, secret: str) -> AsyncOpenAI:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app, raise_app_exceptions=False))
    return AsyncOpenAI(base_url="http://gateway/v1", api_key=secret, http_client=http, max_retries=0)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncOpenAI]:
    async with client_as(app, OURS) as client:
        yield client


async def store(database: Database, *rows: Completion) -> list[str]:
    async with database.write() as session:
        session.add_all(rows)
    return [row.id for row in rows]


async def test_a_stored_completion_is_the_chat_completion_that_was_sent(
    database: Database, client: AsyncOpenAI
) -> None:
    said = {"role": "assistant", "content": "Yes.", "reasoning": "Hm"}
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    choices = [
        {"index": 0, "message": said, "finish_reason": "stop"},
        {"index": 1, "message": said | {"content": "", "tool_calls": [call]}, "finish_reason": "tool_calls"},
    ]
    (id_,) = await store(database, completion(1, choices=choices, call_metadata={"team": "a"}))
    shown = await client.chat.completions.retrieve(id_)
    ChatCompletion.model_validate(shown.to_dict(), strict=True)
    assert shown.to_dict() | {"choices": []} == {
        "id": id_,
        "object": "chat.completion",
        "created": 1_700_000_001,
        "model": "assistant-20261123-1",
        "system_fingerprint": "rel_1",
        "metadata": {"team": "a"},
        "usage": USAGE,
        "choices": [],
    }
    first, second = (choice.message.model_dump(exclude_none=True) for choice in shown.choices)
    assert first == said | {"reasoning_content": "Hm"}
    assert second == {"role": "assistant", "reasoning": "Hm", "reasoning_content": "Hm", "tool_calls": [call]}
    assert [choice.finish_reason for choice in shown.choices] == ["stop", "tool_calls"]


async def test_strict_shows_no_reasoning(database: Database, app: FastAPI, client: AsyncOpenAI) -> None:
    app.state.services.settings = Settings.model_validate({"surface": {"extensions": "strict"}})
    message = {"role": "assistant", "content": "Yes.", "reasoning": "Hm"}
    (id_,) = await store(database, completion(1, choices=[{"index": 0, "message": message, "finish_reason": "stop"}]))
    shown = (await client.chat.completions.retrieve(id_)).choices[0].message
    assert shown.to_dict() == {"role": "assistant", "content": "Yes.", "refusal": None}


async def test_pages_are_turned_in_both_orders(database: Database, client: AsyncOpenAI) -> None:
    ids = await store(database, *(completion(number) for number in range(7)))
    assert [one.id async for one in client.chat.completions.list(limit=3)] == ids
    assert [one.id async for one in client.chat.completions.list(limit=2, order="desc")] == ids[::-1]
    first = await client.chat.completions.list(limit=7)
    assert (first.has_more, len(first.data)) == (False, 7)
    behind = await client.chat.completions.list(limit=2, after=ids[3])
    assert ([one.id for one in behind.data], behind.has_more) == (ids[4:6], True)


async def test_completions_of_one_moment_are_each_listed_once(database: Database, client: AsyncOpenAI) -> None:
    ids = await store(database, *(completion(1) for _ in range(5)))
    for order in ("asc", "desc"):
        listed = [one.id async for one in client.chat.completions.list(limit=2, order=order)]
        assert sorted(listed) == sorted(ids)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_deleting_while_listing_misses_none(database: Database, client: AsyncOpenAI, order: Any) -> None:
    at = [1_700_000_000 + number / 4000 for number in range(9)]  # up to four within a millisecond
    await store(database, *(completion(0, id=COMPLETION + ulid(when), created_at=when) for when in at))
    async for one in client.chat.completions.list(limit=2, order=order):
        await client.chat.completions.delete(one.id)
    assert (await client.chat.completions.list()).data == []


async def test_the_list_is_filtered_by_model_and_by_metadata(database: Database, client: AsyncOpenAI) -> None:
    odd = {'a"b.c[0]\\': "x%"}
    plain, tagged, other = await store(
        database,
        completion(1),
        completion(2, call_metadata={"team": "a", "tier": "1"} | odd),
        completion(3, release_id="rel_2", alias="helper", call_metadata={"team": "b"}),
    )

    async def listed(**filters: Any) -> list[str]:
        return [one.id async for one in client.chat.completions.list(**filters)]

    assert await listed(model="assistant") == [plain, tagged]
    assert await listed(model="assistant-20261123-2") == await listed(model="helper") == [other]
    assert await listed(metadata={"team": "a"}) == await listed(metadata=odd) == [tagged]
    assert await listed(metadata={"team": "b", "tier": "1"}) == await listed(model="none", metadata={"team": "a"}) == []
    assert await listed(metadata={"team": "A"}) == await listed(metadata={"team": "1"}) == []


async def test_the_messages_of_the_prompt_are_listed_with_ids(database: Database, client: AsyncOpenAI) -> None:
    parts = [{"type": "text", "text": "What "}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [*parts, {"type": "text", "text": "is it?"}]},
        {"role": "user", "content": "Well?"},
    ]
    (id_,) = await store(database, completion(1, messages=messages))
    listed = [one async for one in client.chat.completions.messages.list(id_, limit=2)]
    assert [(one.id, one.role, one.content) for one in listed] == [
        (f"{id_}-0", "system", "Be brief."), (f"{id_}-1", "user", "What is it?"), (f"{id_}-2", "user", "Well?")
    ]  # fmt: skip
    assert listed[1].to_dict()["content_parts"] == messages[1]["content"]
    assert listed[0].content_parts is None
    backwards = [one.id async for one in client.chat.completions.messages.list(id_, limit=1, order="desc")]
    assert backwards == [f"{id_}-2", f"{id_}-1", f"{id_}-0"]
    with pytest.raises(BadRequestError) as caught:
        await client.chat.completions.messages.list(id_, after="nothing")
    assert caught.value.param == "after"


async def test_metadata_is_replaced(database: Database, client: AsyncOpenAI) -> None:
    (id_,) = await store(database, completion(1, call_metadata={"old": "1"}))
    changed = await client.chat.completions.update(id_, metadata={"team": "a"})
    assert changed.metadata == (await client.chat.completions.retrieve(id_)).metadata == {"team": "a"}
    assert (await client.chat.completions.update(id_, metadata=None)).metadata == {}
    for wrong in ({"k" * 65: "v"}, {"k": "v" * 513}, {"": "v"}, {"k": "\0"}, {str(n): "v" for n in range(17)}):
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.update(id_, metadata=wrong)
        assert str(caught.value.param).startswith("metadata")


async def test_a_deleted_completion_is_gone(database: Database, client: AsyncOpenAI) -> None:
    gone, kept = await store(database, completion(1), completion(2))
    deleted = await client.chat.completions.delete(gone)
    assert deleted.to_dict() == {"id": gone, "object": "chat.completion.deleted", "deleted": True}
    with pytest.raises(NotFoundError) as caught:
        await client.chat.completions.delete(gone)
    assert caught.value.code == "completion_not_stored"
    assert [one.id async for one in client.chat.completions.list()] == [kept]


async def test_another_project_s_completion_is_as_unknown_as_any_other(
    database: Database, app: FastAPI, client: AsyncOpenAI
) -> None:
    (id_,) = await store(database, completion(1))
    unknown = id_[:-1] + ("0" if id_[-1] != "0" else "1")
    async with client_as(app, THEIRS) as stranger:
        chats = stranger.chat.completions
        for name in (id_, unknown, "chatcmpl-\0"):
            attempts = [chats.retrieve(name), chats.delete(name), chats.update(name, metadata={"a": "b"})]
            told = []
            for attempt in attempts:
                with pytest.raises(NotFoundError) as caught:
                    await attempt
                told.append(
                    (caught.value.code, caught.value.param, caught.value.body["message"].replace(repr(name), ""))
                )
            assert len(set(told)) == 1
        with pytest.raises(NotFoundError):
            await chats.messages.list(id_)
        assert (await chats.list()).data == []
        assert (await chats.list(after=id_)).data == []  # no other answer than for an id that nobody has
        assert (await chats.list(after=unknown)).data == []
    assert (await client.chat.completions.retrieve(id_)).metadata == {}


async def test_what_was_broken_off_is_listed_as_cut(database: Database, client: AsyncOpenAI) -> None:
    message = {"role": "assistant", "content": "Ye"}
    broken = completion(1, status="failed", choices=[{"index": 0, "message": message, "finish_reason": None}])
    await store(database, broken)
    (shown,) = (await client.chat.completions.list()).data
    ChatCompletion.model_validate(shown.model_dump(), strict=True)
    assert shown.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=x", "after"), ("colour=red", "colour")],
)
async def test_a_query_that_cannot_be_is_a_400_that_names_it(app: FastAPI, query: str, param: str) -> None:
    async with client_as(app, OURS) as client:
        with pytest.raises(BadRequestError) as caught:
            await client.get(f"/chat/completions?{query}", cast_to=object)
        assert caught.value.param == param


async def test_a_key_without_inference_sees_nothing(app: FastAPI) -> None:
    async with client_as(app, SILENT) as client:
        with pytest.raises(PermissionDeniedError):
            await client.chat.completions.list()
