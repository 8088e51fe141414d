"""The snippet of docs/fine-tuning.md, as it stands, against a gateway and an aligner; its end reaches a receiver."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from aiohttp import web

from alignment.worker import Worker
from gateway.app import create_app
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import request_cancel
from gateway.storage.tables import ApiKey
from tests.alignment.test_cycle import NOW, fill
from tests.loopback import listening

ROOT = Path(__file__).parent.parent.parent
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "fine-tuning.md").read_text(), re.M | re.S)
KEY = "sk-trainer-00000000"
WEBHOOK_SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtMDEy"


async def prepare(database: Database, model: Path) -> None:
    """An alias without votes over the tiny model, and a key; the queued run of the fixture is cancelled."""
    run = await fill(database, model, 0, {})
    async with database.write() as session:
        await request_cancel(session, await session.get_one(Run, run.id), NOW)
        session.add(
            ApiKey(
                id="key_1",
                project_id="proj_1",
                name="trainer",
                secret_sha256=keys.sha256_of(KEY),
                scopes=["train"],
                images=False,
                created_at=NOW,
            )
        )


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[str]:
    """The gateway on a free port of loopback."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


@asynccontextmanager
async def aligner(database: Database, store: Path) -> AsyncIterator[None]:
    """An aligner at work."""
    worker = Worker(database, store, poll_seconds=0.1)
    working = asyncio.create_task(worker.serve())
    yield
    worker.stopping.set()
    await working


async def test_the_snippet_trains_a_release_and_its_end_is_told(
    sqlite_url: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = [{"prompt": f"colour {n}?", "chosen": "blue", "rejected": "red"} for n in range(24)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        told.put_nowait((await request.text(), dict(request.headers)))
        return web.Response()

    hooks = web.Application()
    hooks.router.add_post("/", receive)
    database = Database(sqlite_url)
    await prepare(database, tiny_model)
    async with listening(hooks) as hook:
        webhooks = {"url": f"{hook}/", "secret": WEBHOOK_SECRET}
        fields: dict[str, Any] = {"data_dir": tmp_path / "data", "database": {"url": sqlite_url}, "webhooks": webhooks}
        settings = Settings.model_validate(fields)
        async with served(settings) as url, aligner(database, settings.store_path):
            code = SNIPPETS[0].replace("http://localhost:8080", url).replace("sk-...", KEY)
            snippet = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, cwd=tmp_path, env=os.environ | {"no_proxy": "*"},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(snippet.communicate(), 120)
            assert snippet.returncode == 0, err.decode()
            first = await asyncio.wait_for(told.get(), 30)
    await database.close()
    printed = out.decode().splitlines()
    assert printed[-1] == f"succeeded assistant-{time.strftime('%Y%m%d', time.gmtime())}-1 None"
    figures = next(line for line in printed if line.startswith("step 1 of"))
    assert all(f"'{name}'" in figures for name in ("train_loss", "nll", "log_odds_ratio", "rewards_margin", "lr"))
    assert any(line.startswith("gate perplexity") and "'pass'" in line for line in printed)
    event = openai.OpenAI(api_key="none", webhook_secret=WEBHOOK_SECRET).webhooks.unwrap(*first)
    assert event.type == "fine_tuning.job.succeeded"


@pytest.mark.parametrize("code", SNIPPETS)
def test_every_snippet_is_python(code: str) -> None:
    compile(code, "docs/fine-tuning.md", "exec")
