"""Fixtures: a scripted engine as a server in this process, and folders of weights for it."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from gateway.engines.scripted_engine import Folder, ScriptedEngine
from gateway.engines.scripted_routes import build_app


def weights(folder: Path, marker: str | None) -> Path:
    """A folder that a scripted engine takes for weights and for an adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "adapter_config.json"):
        (folder / name).write_text("{}")
    if marker is not None:
        (folder / "marker.txt").write_text(marker + "\n")
    return folder


@dataclass
class Served:
    """A scripted engine and its address."""

    engine: ScriptedEngine
    url: str


async def serve(app: web.Application) -> tuple[web.AppRunner, str]:
    """Any application on a free loopback port."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    return runner, f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A scripted engine that holds weights with the marker `base`."""
    engine = ScriptedEngine(Folder.read(weights(tmp_path / "base", "base"), "config.json"), chunk_seconds=0.001)
    runner, url = await serve(build_app(engine))
    yield Served(engine, url)
    await runner.cleanup()
