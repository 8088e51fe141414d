"""A replica with all around it: a store of small folders, an alias over a base, agents with the scripted engine."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from gateway.agent.record import EngineRecord, read_record
from gateway.agent.settings import AgentSettings, ReplicaSettings
from gateway.contracts import ids
from gateway.contracts.ids import WEIGHTS_NAME
from gateway.contracts.release import BaseModelRef, Release
from gateway.contracts.seal import write_seal
from gateway.settings import EngineSettings
from gateway.storage.database import Database
from gateway.storage.replicas import register_replica
from gateway.storage.routing_state import begin_beside, begin_swap, bump_epoch
from gateway.storage.tables import Alias, GatewayWorker, Project, ReleaseRow, Replica
from tests.adapters import write_lora

REPLICA = "assistant-1"
ALIAS = "assistant"
RANK = 8
PATIENCE_SECONDS = 20.0
LOOK_SECONDS = 0.02


BASE = BaseModelRef(model="test/base", revision="1", weights_sha256="0" * 64)


def manifest(release_id: str, rank: int = RANK) -> Release:
    """What a release folder of this alias says of itself."""
    return Release(
        id=release_id,
        name=f"assistant-{release_id[-6:]}",
        alias=ALIAS,
        parent_id=None,
        base=BASE,
        adapter_rank=rank,
        method="orpo",
        dataset_id=None,
        run_id=None,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def eventually(check: Callable[[], Awaitable[Any]], seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until `check` answers something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := await check()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        await asyncio.sleep(LOOK_SECONDS)
    return answer


class Lab:
    """One replica, everything around it, and the questions tests ask."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.store_url: str | None = None
        self.database = database
        self.base_id = ids.mint(ids.RELEASE)
        self.agents: list[subprocess.Popen[bytes]] = []
        self.engine = EngineSettings(kind="scripted", args=("--chunk-seconds", "0.02"))

    async def prepare(self) -> None:
        """The alias over its base model, and the replica."""
        base = self.folder / "base"
        base.mkdir()
        (base / "config.json").write_text("{}")
        (base / "marker.txt").write_text("base")
        now = time.time()
        async with self.database.write() as session:
            session.add(Project(id="proj_test", name="test", created_at=now))
            await session.flush()
            session.add(
                Alias(
                    name=ALIAS,
                    project_id="proj_test",
                    base_release_id=self.base_id,
                    serving_release_id=self.base_id,
                    created_at=now,
                    updated_at=now,
                )
            )
            await session.flush()
            session.add(self._row(self.base_id, "base", str(base)))
            await session.flush()
            await register_replica(session, REPLICA, ALIAS, "scripted", self.base_id)

    async def release(self, marker: str, unloadable: bool = False) -> str:
        """A sealed release that answers with `marker`; `unloadable`: its weights look right, but do not load."""
        release_id = ids.mint(ids.RELEASE)
        folder = self.store / release_id
        write_lora(folder / "adapter", RANK)
        (folder / "adapter" / "marker.txt").write_text(f"{marker}-adapter")
        (folder / "merged").mkdir()
        (folder / "merged" / "config.json").write_text("{}")
        (folder / "merged" / "marker.txt").write_bytes(b"\xff" if unloadable else marker.encode())
        (folder / "release.json").write_text(manifest(release_id).model_dump_json())
        write_seal(folder, release_id)
        async with self.database.write() as session:
            session.add(self._row(release_id, "aligned", release_id))
        return release_id

    def _row(self, release_id: str, kind: str, location: str) -> ReleaseRow:
        return ReleaseRow(
            id=release_id,
            alias=ALIAS,
            name=f"assistant-{release_id[-6:]}",
            kind=kind,
            state="published",
            location=location,
            adapter_rank=None if kind == "base" else RANK,
            base_release_id=None if kind == "base" else self.base_id,
            manifest={"base": BASE.model_dump()},
            created_at=time.time(),
        )

    def start_agent(self) -> subprocess.Popen[bytes]:
        """An agent process; its standard input stays open until the test closes it."""
        settings = AgentSettings(
            database_url=self.database.url,
            store=self.store,
            store_url=self.store_url,
            data_dir=self.folder / "data",
            replicas={REPLICA: ReplicaSettings(engine=self.engine)},
        )
        with (self.folder / "agent.log").open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, "-m", "gateway.agent", "--lifeline", "--settings", "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        assert agent.stdin is not None
        agent.stdin.write(settings.model_dump_json().encode() + b"\n")
        agent.stdin.flush()
        self.agents.append(agent)
        return agent

    async def row(self) -> Replica:
        """The replica's row."""
        async with self.database.read() as session:
            return await session.get_one(Replica, REPLICA)

    async def until(self, seconds: float = PATIENCE_SECONDS, **columns: Any) -> Replica:
        """Wait for the row to have these values."""

        async def check() -> Replica | None:
            row = await self.row()
            return row if all(getattr(row, name) == value for name, value in columns.items()) else None

        try:
            return await eventually(check, seconds)  # type: ignore[no-any-return]
        except AssertionError as error:
            row = vars(await self.row())
            raise AssertionError(f"wanted {columns}, have {row}; {self.agent_log()[-3000:]}") from error

    async def desire(self, adapters: list[str]) -> int:
        """What the reconciler would write to have these adapters held."""
        async with self.database.write() as session:
            row = await session.get_one(Replica, REPLICA)
            row.desired_adapters, row.epoch = adapters, await bump_epoch(session)
            return row.epoch

    async def begin_swap(self, release_id: str) -> int:
        """What the reconciler does to begin an exchange; returns the fence's epoch."""
        async with self.database.write() as session:
            row = await session.get_one(Replica, REPLICA)
            return await begin_swap(session, row, release_id, time.time() + 30)

    async def begin_beside(self, release_id: str) -> None:
        """What the reconciler does where an engine takes no weights while it runs."""
        async with self.database.write() as session:
            await begin_beside(session, await session.get_one(Replica, REPLICA), release_id)

    async def worker(self, epoch: int, in_flight: dict[str, int] | None = None) -> None:
        """A live gateway worker that goes by `epoch`, with requests at work at these addresses."""
        now = time.time()
        told = {"epoch": epoch, "in_flight": in_flight or {}, "started_at": now, "seen_at": now}
        async with self.database.write() as session:
            await session.merge(GatewayWorker(id="gw_1", host="h", pid=1, **told))

    async def ask(self, text: str, model: str = WEIGHTS_NAME) -> str:
        """The engine's answer to a prompt."""
        row = await self.row()
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        async with aiohttp.ClientSession() as session, session.post(f"{row.url}/v1/chat/completions", json=body) as got:
            answer = await got.json()
        return str(answer["choices"][0]["message"]["content"] if got.status == 200 else answer["error"]["message"])

    def record(self) -> EngineRecord:
        """What the agent remembers of its engine."""
        record = read_record(self.folder / "data" / "engines" / f"{REPLICA}.json")
        assert record is not None
        return record

    def engines(self) -> list[int]:
        """Ids of the scripted engines of this lab that run."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or [])
            if "gateway.engines.scripted" in line and str(self.folder) in line:
                found.append(process.pid)
        return found

    def agent_log(self) -> str:
        """What all agents said."""
        return (self.folder / "agent.log").read_text()

    def clear_up(self) -> None:
        """Nothing that a test started may outlive it."""
        for agent in self.agents:
            if agent.poll() is None:
                agent.send_signal(signal.SIGKILL)
            agent.wait()
            assert agent.stdin is not None
            agent.stdin.close()
        for pid in self.engines():
            psutil.Process(pid).kill()
