"""A real gateway with two projects and a small base model, for the tests of fine-tuning jobs."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from openai import AsyncOpenAI

from gateway.app import create_app
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.keys import ensure_project
from gateway.storage.runs import find_run
from gateway.storage.tables import Alias, ApiKey, Project, ReleaseRow

TRAINER, STRANGER, NARROW = "sk-trainer-00000000", "sk-stranger-0000000", "sk-narrow-000000000"
WRITES = ("train", "feedback", "feedback:write_text")
BASE = "test/base"


@asynccontextmanager
async def gateway(database: Database, url: str, folder: Path) -> AsyncIterator[FastAPI]:
    """The whole application, with `assistant` in the first project, over a base model that lies in `folder`."""
    await fill(database, folder)
    app = create_app(Settings.model_validate({"data_dir": folder / "data", "database": {"url": url}}))
    async with app.router.lifespan_context(app):
        yield app


async def fill(database: Database, folder: Path) -> None:
    """Projects, keys, aliases and releases."""
    async with database.write() as session:
        own = (await ensure_project(session)).id
        session.add(Project(id="proj_2", name="two", created_at=1.0))
        await session.flush()
        session.add_all([alias("assistant", own), alias("theirs", "proj_2"), alias("embedder", own, task="embed")])
        session.add_all([key(TRAINER, own, *WRITES), key(STRANGER, "proj_2", "train"), key(NARROW, own, "inference")])
        await session.flush()
        for name in ("assistant", "theirs", "embedder"):
            session.add(release(name, "base", folder, model=BASE if name == "assistant" else f"test/{name}"))
        session.add(release("assistant", "aligned", folder))


def alias(name: str, project: str, task: str = "chat") -> Alias:
    """An alias that serves its base."""
    base = f"rel_{name}"
    fields = {"base_release_id": base, "serving_release_id": base, "created_at": 1.0, "updated_at": 1.0}
    return Alias(name=name, project_id=project, task=task, **fields)


def key(secret: str, project: str, *scopes: str) -> ApiKey:
    """A key by its secret."""
    return ApiKey(
        id=secret,
        project_id=project,
        name=secret,
        secret_sha256=keys.sha256_of(secret),
        scopes=list(scopes),
        images=False,
        created_at=1.0,
    )


def release(name: str, kind: str, folder: Path, model: str = BASE) -> ReleaseRow:
    """The base release of an alias, or its first aligned one."""
    aligned = kind == "aligned"
    return ReleaseRow(
        id=f"rel_{name}" + "_1" * aligned,
        alias=name,
        name=f"{name}-{1 if aligned else 0}",
        kind=kind,
        state="published",
        location=str(folder),
        manifest={"base": {"model": model, "revision": "1", "weights_sha256": "0" * 64}},
        tainted=False,
        created_at=1.0,
    )


def client_of(app: FastAPI, secret: str = TRAINER) -> AsyncOpenAI:
    """The SDK, talking to the application in this process."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    http = httpx2.AsyncClient(transport=transport)
    return AsyncOpenAI(base_url="http://127.0.0.1/v1", api_key=secret, http_client=http, max_retries=0)


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a file."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def pairs(count: int, word: str = "colour") -> list[dict[str, Any]]:
    """So many pairs about prompts of their own."""
    return [{"prompt": f"{word} {n}?", "chosen": "blue", "rejected": "red"} for n in range(count)]


def answers(count: int) -> list[dict[str, Any]]:
    """So many single answers, as OpenAI's supervised files hold them."""
    said = [[{"role": "user", "content": f"name {n}?"}, {"role": "assistant", "content": "Ann"}] for n in range(count)]
    return [{"messages": messages} for messages in said]


async def upload(client: AsyncOpenAI, rows: list[dict[str, Any]]) -> str:
    """The id of a new file."""
    return (await client.files.create(file=("rows.jsonl", jsonl(rows)), purpose="fine-tune")).id


async def run_of(database: Database, job_id: str) -> Run:
    """The run behind a job."""
    async with database.read() as session:
        run = await find_run(session, job_id)
    assert run is not None
    return run
