"""A whole Alignway on loopback for tests: real database, real agent, real gateway workers, each a process of its own.

The engine is the scripted one unless told otherwise: every answer it writes names the weights that wrote it.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from openai import AsyncOpenAI

from gateway.bootstrap import ResolvedModel
from gateway.commands.serving import (
    agent_spec,
    aligner_spec,
    listening_socket,
    prepare,
    resolve_model,
    worker_specs,
)
from gateway.contracts import ids
from gateway.contracts.release import BaseModelRef, DerivedAdapter, GateResult, Release
from gateway.contracts.seal import write_seal
from gateway.settings import ModelSettings, Settings
from gateway.storage.database import Database
from gateway.storage.releases import announce_release, next_release_name
from gateway.storage.tables import Alias, ReleaseRow
from gateway.supervisor import Supervisor
from tests.adapters import write_lora

RANK = 16
ADMIN_KEY = "test-admin-key-0123456789"
READY_SECONDS = 180.0


class Stack:
    """One running Alignway."""

    def __init__(self, settings: Settings, base_marker: str = "BASE", ready_seconds: float = READY_SECONDS) -> None:
        self.settings = settings
        self._ready_seconds = ready_seconds
        self.supervisor = Supervisor()
        self.database = Database(settings.database_url)
        self._listener = listening_socket("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._base_marker = base_marker
        self.client = AsyncOpenAI(base_url=f"{self.url}/v1", api_key=ADMIN_KEY, max_retries=0, timeout=120)
        self._http: aiohttp.ClientSession | None = None
        self._models: dict[str, ResolvedModel] = {}

    async def start(self) -> None:
        """Start everything and wait until every alias is served."""
        settings = self.settings
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._models = {model.alias: await asyncio.to_thread(self._resolve, model) for model in settings.models}
        await prepare(settings, self._models)
        for spec in worker_specs(settings, self._listener):
            self.supervisor.start(spec)
        if any(model.engine.kind != "url" for model in settings.models):
            self.supervisor.start(agent_spec(settings))
        if settings.aligner.enabled:
            self.supervisor.start(aligner_spec(settings))
        self._http = aiohttp.ClientSession(self.url, headers={"authorization": f"Bearer {ADMIN_KEY}"})
        await self.until(self.ready, self._ready_seconds)

    def _resolve(self, model: ModelSettings) -> ResolvedModel:
        """A made-up model for the scripted engine and engines given by address; a real one for real engines."""
        if model.engine.kind in ("vllm", "lmdeploy"):
            return resolve_model(model)
        folder = Path(model.model)
        if model.engine.kind == "scripted":
            write_weights(folder, self._base_marker)
        name, kind = model.engine.model or ids.WEIGHTS_NAME, model.engine.dialect
        return ResolvedModel(str(folder), base_ref().model_dump(), name, kind)

    async def change_swap(self, swap: str) -> None:
        """Hold releases another way from now on: what a gateway does that is started with another `swap`."""
        models = tuple(model.model_copy(update={"swap": swap}) for model in self.settings.models)
        await prepare(self.settings.model_copy(update={"models": models}), self._models)

    async def stop(self) -> None:
        """Stop everything in good order."""
        if self._http is not None:
            await self._http.close()
        await self.client.close()
        await self.supervisor.stop()
        await self.database.close()
        self._listener.close()

    async def ready(self) -> bool:
        """Whether `/readyz` says so."""
        try:
            status, _ = await self.call("GET", "/readyz")
        except aiohttp.ClientError:
            return False
        return status == 200

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """A request with the admin key; status and decoded body."""
        if self._http is None:
            raise RuntimeError("start the stack first")
        async with self._http.request(method, path, json=body, headers=headers) as response:
            return response.status, json.loads(await response.read() or b"{}")

    async def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        """Wait for a condition; a test that waits in vain fails with the logs."""
        deadline = time.monotonic() + seconds
        while not await condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s\n{self.logs()}")
            await asyncio.sleep(0.05)

    def logs(self, characters: int = 4000) -> str:
        """The ends of all log files."""
        files = sorted((self.settings.data_dir / "logs").glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-characters:]}" for file in files)

    async def make_release(
        self,
        marker: str,
        alias: str = "assistant",
        gates: tuple[GateResult, ...] = (),
        state: str = "published",
        over: ReleaseRow | None = None,
    ) -> ReleaseRow:
        """A sealed release whose weights and adapter both say `marker`.

        `over`: with derived adapters of rank 32 from and to that release, which say `marker` and its name.
        """
        async with self.database.write() as session:
            owner = await session.get_one(Alias, alias)
            created = datetime.now(UTC)
            release = Release(
                id=ids.mint(ids.RELEASE),
                name=await next_release_name(session, alias, created),
                alias=alias,
                parent_id=owner.serving_release_id,
                base=base_ref(),
                adapter_rank=RANK,
                method="orpo",
                dataset_id=None,
                run_id=None,
                created_at=created,
                gates=gates,
                difference=derived_from(over),
                reverse=derived_from(over),
            )
            location = Path("releases") / alias / release.id
            folder = self.settings.store_path / location
            write_weights(folder / "merged", marker)
            write_adapter(folder / "adapter", marker)
            if over is not None:
                write_adapter(folder / "difference", f"{marker}-DIFFERENCE", 2 * RANK)
                write_adapter(folder / "reverse", f"{marker}-REVERSE", 2 * RANK)
            (folder / "release.json").write_text(release.model_dump_json())
            write_seal(folder, release.id)
            return await announce_release(session, release, str(location), state)

    async def promote(self, release: str, alias: str = "assistant", **body: Any) -> dict[str, Any]:
        """Ask for a promotion; the rollout."""
        status, rollout = await self.call("POST", f"/admin/v1/aliases/{alias}/promote", {"release": release} | body)
        assert status == 202, rollout
        return rollout

    async def ended(self, rollout_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """The rollout once it has ended."""
        found: dict[str, Any] = {}

        async def over() -> bool:
            nonlocal found
            _, found = await self.call("GET", f"/admin/v1/rollouts/{rollout_id}")
            return found["state"] in ("promoted", "rolled_back", "stopped")

        await self.until(over, seconds)
        return found

    async def ask(self, prompt: str = "hello", **options: Any) -> Any:
        """One whole completion."""
        fields = {"model": "assistant", "messages": [{"role": "user", "content": prompt}]} | options
        return await self.client.chat.completions.create(**fields)


def stack_settings(folder: Path, database_url: str | None = None, **changes: Any) -> Settings:
    """Settings of a stack over the scripted engine in `folder`; `changes` are merged in by section."""
    fields: dict[str, Any] = {
        "data_dir": folder / "data",
        "admin_key": ADMIN_KEY,
        "database": {"url": database_url},
        "models": [{"model": str(folder / "model"), "engine": {"kind": "scripted"}}],
        "aligner": {"enabled": False},
    }
    return Settings.model_validate(fields | changes)


@contextlib.asynccontextmanager
async def running(settings: Settings, ready_seconds: float = READY_SECONDS) -> AsyncIterator[Stack]:
    """A started stack, stopped at the end."""
    stack = Stack(settings, ready_seconds=ready_seconds)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


def derived_from(over: ReleaseRow | None) -> DerivedAdapter | None:
    """What a manifest says of an adapter derived from `over`."""
    return None if over is None else DerivedAdapter(incumbent_id=over.id, rank=2 * RANK)


def base_ref() -> BaseModelRef:
    """The identity of the made-up base model."""
    return BaseModelRef(model="test/base", revision="1", weights_sha256="0" * 64)


def write_weights(folder: Path, marker: str) -> None:
    """A folder that the scripted engine takes for full weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "marker.txt").write_text(marker)


def write_adapter(folder: Path, marker: str, rank: int = RANK) -> None:
    """A folder that the scripted engine takes for an adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    write_lora(folder, rank)
    (folder / "marker.txt").write_text(marker)
