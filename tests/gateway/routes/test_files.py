"""`/v1/files` through the openai SDK, and imports of what was uploaded, on both databases."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI
from sqlalchemy import select

from gateway.access.authenticate import Authenticator
from gateway.access.secrets import Secrets
from gateway.routes import feedback_imports, files
from gateway.routes.errors import install_error_handlers
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.feedback_tables import PairRow
from gateway.storage.group_commit import GroupCommit
from gateway.storage.tables import Alias, ApiKey, Project
from gateway.telemetry.metrics import Metrics
from tests.gateway.formats.shapes import MEDICAL, SHAPES, rating

SCOPES = {
    "sk-trainer-00000000": ("proj_1", ["train", "feedback", "feedback:write_text"]),
    "sk-narrow-000000000": ("proj_1", ["train", "feedback"]),
    "sk-stranger-0000000": ("proj_2", ["train", "feedback", "feedback:write_text"]),
}
LIMIT = 200_000


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.fixture
async def app(database: Database, tmp_path: Path) -> AsyncIterator[FastAPI]:
    async with database.write() as session:
        session.add_all([Project(id=f"proj_{n}", name=f"p{n}", created_at=1.0) for n in (1, 2)])
        await session.flush()
        fields = {"base_release_id": "rel_1", "serving_release_id": "rel_1", "created_at": 1.0, "updated_at": 1.0}
        session.add(Alias(name="assistant", project_id="proj_1", **fields))
        for secret, (project, scopes) in SCOPES.items():
            digest = keys.sha256_of(secret)
            session.add(
                ApiKey(id=secret, project_id=project, name=secret, secret_sha256=digest, scopes=scopes, created_at=1.0)
            )
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(files.router)
    app.include_router(feedback_imports.router)
    app.state.services = SimpleNamespace(
        database=database,
        votes=GroupCommit(database, "durable"),
        settings=Settings.model_validate(
            {"data_dir": tmp_path / "data", "files": {"limit_bytes": LIMIT}, "server": {"receipt_seconds": 0.5}}
        ),
        secrets=Secrets("root"),
        authenticator=Authenticator(database),
        metrics=Metrics(),
    )
    yield app
    await app.state.services.votes.close()


def client_of(app: FastAPI, secret: str = "sk-trainer-00000000") -> AsyncOpenAI:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    http = httpx2.AsyncClient(transport=transport)
    return AsyncOpenAI(base_url="http://gateway/v1", api_key=secret, http_client=http, max_retries=0)


@pytest.fixture
def client(app: FastAPI) -> AsyncOpenAI:
    return client_of(app)


async def upload(client: AsyncOpenAI, content: bytes, name: str = "pairs.jsonl") -> Any:
    return await client.files.create(file=(name, content), purpose="fine-tune")


async def import_file(client: AsyncOpenAI, file_id: str, **fields: Any) -> dict[str, Any]:
    body = {"file_id": file_id, "source": "crm", "licence": "internal"} | fields
    return await client.post("/feedback/imports", body=body, cast_to=dict[str, Any])


async def pairs(database: Database) -> list[dict[str, Any]]:
    async with database.read() as session:
        return [row.body for row in await session.scalars(select(PairRow).order_by(PairRow.id))]


async def test_a_file_is_kept_read_back_and_deleted(client: AsyncOpenAI, app: FastAPI) -> None:
    content = jsonl(MEDICAL, SHAPES["openai"][1])
    made = await upload(client, content, "../医学 pairs.jsonl")
    assert made.id.startswith("file-")
    assert (made.object, made.bytes, made.filename, made.purpose) == (
        "file",
        len(content),
        "医学 pairs.jsonl",
        "fine-tune",
    )
    assert (made.status, made.status_details) == ("processed", None)
    assert made.model_extra is not None
    assert made.model_extra["counts"]["formats"] == {"trl": 1, "openai": 1}
    assert await client.files.retrieve(made.id) == made
    assert (await client.files.content(made.id)).content == content
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        await client.files.retrieve(made.id)
    assert caught.value.code == "file_not_found"
    assert list((app.state.services.settings.store_path / "files").iterdir()) == []


async def test_files_are_listed_newest_first_page_by_page(client: AsyncOpenAI) -> None:
    made = [(await upload(client, jsonl(MEDICAL | {"id": n}))).id for n in range(5)]
    assert [file.id async for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id async for file in client.files.list(limit=2, order="asc")] == made
    page = await client.files.list(limit=2, after=made[2])
    assert ([file.id for file in page.data], page.has_more) == (made[1::-1], False)


async def test_a_file_with_bad_rows_is_kept_and_says_which(client: AsyncOpenAI) -> None:
    made = await upload(client, jsonl(MEDICAL, {"prompt": "问", "chosen": "好", "rejected": "好"}))
    assert made.status == "error"
    assert made.status_details is not None
    assert made.status_details.startswith("1 of 2 rows are bad. line 2: identical_outputs")
    with pytest.raises(openai.BadRequestError) as caught:
        await import_file(client, made.id)
    assert caught.value.code == "invalid_pairs"
    assert (await import_file(client, made.id, on_error="skip"))["new"] == 1


@pytest.mark.parametrize(
    ("content", "details"),
    [(b"", "holds no pair"), (b"\xff\xfe", "not UTF-8"), (b"[1", "not JSON"), (jsonl(rating(thumb=None)), "no pair")],
)
async def test_a_file_that_holds_nothing_is_an_error(client: AsyncOpenAI, content: bytes, details: str) -> None:
    made = await upload(client, content)
    assert made.status == "error"
    assert details in (made.status_details or "")


async def test_answers_with_thumbs_are_good_rows_too(client: AsyncOpenAI) -> None:
    made = await upload(client, jsonl({"prompt": "疼吗?", "completion": "不疼。", "label": True}))
    assert (made.status, (made.model_extra or {})["counts"]["answers"]) == ("processed", 1)


async def test_an_import_makes_pairs_once(client: AsyncOpenAI, database: Database) -> None:
    made = await upload(client, jsonl(MEDICAL, *[MEDICAL | {"prompt": f"第{n}个问题"} for n in range(1200)]))
    counts = [await import_file(client, made.id) for _ in range(2)]
    assert [(one["rows"], one["new"], one["known"]) for one in counts] == [(1201, 1201, 0), (1201, 0, 1201)]
    assert (counts[0]["object"], counts[0]["alias"]) == ("feedback.import", "assistant")
    found = await pairs(database)
    assert len(found) == 1201
    assert {(pair["source"], pair["licence"], pair["basis"]) for pair in found} == {("crm", "internal", "import")}


async def test_a_file_of_another_project_is_as_unknown_as_any(app: FastAPI, client: AsyncOpenAI) -> None:
    made = await upload(client, jsonl(MEDICAL))
    stranger = client_of(app, "sk-stranger-0000000")
    assert (await stranger.files.list()).data == []
    for call in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
        with pytest.raises(openai.NotFoundError):
            await call(made.id)
    with pytest.raises(openai.NotFoundError):
        await import_file(stranger, made.id)
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve("file-\0")
    assert (await client.files.retrieve(made.id)).id == made.id


async def test_an_import_needs_the_scope_for_foreign_text(app: FastAPI, client: AsyncOpenAI) -> None:
    made = await upload(client, jsonl(MEDICAL))
    with pytest.raises(openai.PermissionDeniedError, match="feedback:write_text"):
        await import_file(client_of(app, "sk-narrow-000000000"), made.id)


async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(client: AsyncOpenAI, app: FastAPI) -> None:
    for size in (LIMIT + 1, LIMIT + 200_000):
        with pytest.raises(openai.APIStatusError, match=f"larger than {LIMIT} bytes") as caught:
            await upload(client, b"x" * size)
        assert caught.value.status_code == 413
    assert not (app.state.services.settings.store_path / "files").exists()
    assert (await upload(client, jsonl(MEDICAL).ljust(LIMIT))).status == "processed"


async def test_an_upload_says_what_is_wrong_with_it(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.files.create(file=("a", b"{}"), purpose="vision")
    assert caught.value.code == "unsupported_purpose"
    with pytest.raises(openai.BadRequestError, match="expires_after") as caught:
        await client.files.create(
            file=("a", b"{}"), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
        )
    assert caught.value.code == "unknown_parameter"
    with pytest.raises(openai.APIStatusError, match="multipart") as refused:
        await client.post("/files", body={"purpose": "fine-tune"}, cast_to=object)
    assert refused.value.status_code == 415
    with pytest.raises(openai.BadRequestError, match="`file` is missing"):
        await client.post(
            "/files",
            body={"purpose": "fine-tune"},
            files={"other": ("a", io.BytesIO(b"{}"))},
            cast_to=object,
            options={"headers": {"Content-Type": "multipart/form-data"}},
        )


async def test_an_upload_that_falls_silent_is_given_up(app: FastAPI) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}'
    finished = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        await asyncio.wait_for(finished.wait(), 30)

    headers = {"authorization": "Bearer sk-trainer-00000000", "content-type": "multipart/form-data; boundary=b"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
        answer = await http.post("http://gateway/v1/files", content=pieces(), headers=headers)
    finished.set()
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "request_timeout")
