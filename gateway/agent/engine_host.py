"""Runs one engine: starts it, finds it again after the agent was killed, ends it. Knows nothing of the database."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

from gateway.agent.engine_log import EngineLog
from gateway.agent.process import EngineProcess, end_strays, free_port
from gateway.agent.record import EngineRecord, read_record, write_record
from gateway.agent.settings import ReplicaSettings
from gateway.contracts.ids import WEIGHTS_NAME, engine_name
from gateway.engines.kinds import control_for, launcher_for, takes_weights
from gateway.engines.protocol import EngineControl
from gateway.errors import StartupFailed, UpstreamError

READY_POLL_SECONDS = 0.1
BESIDE = ".second"
"""After the replica's id, in the names of the other place's files."""


class EngineHost:
    """The engine of one replica, if it runs."""

    def __init__(self, replica_id: str, settings: ReplicaSettings, data_dir: Path) -> None:
        self.log = EngineLog(data_dir / "logs" / f"engine-{replica_id}.log")
        self._id, self._settings, self._data_dir = replica_id, settings, data_dir
        self._path = data_dir / "engines" / f"{replica_id}.json"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._process: EngineProcess | None = None
        self._record: EngineRecord | None = None
        self._control: EngineControl | None = None

    @property
    def alive(self) -> bool:
        """Whether an engine that was started and generated a token still runs."""
        return self._control is not None and self._process is not None and self._process.alive()

    @property
    def control(self) -> EngineControl:
        """Control calls to the engine; only while there is one."""
        if self._control is None:
            raise UpstreamError("the engine does not run")
        return self._control

    @property
    def record(self) -> EngineRecord:
        """What is known of the engine; only while there is one."""
        if self._record is None:
            raise UpstreamError("the engine does not run")
        return self._record

    @property
    def url(self) -> str:
        """Where the engine listens."""
        return f"http://127.0.0.1:{self.record.port}"

    @property
    def recorded_url(self) -> str | None:
        """Where an engine listens that some agent left here; None: there is none."""
        record = read_record(self._path)
        lives = record is not None and EngineProcess(record.pid, record.born_at).alive()
        return f"http://127.0.0.1:{record.port}" if record is not None and lives else None

    @property
    def hung_seconds(self) -> float:
        """After so long without a sign of life the engine is to be started again."""
        return self._settings.engine.hung_seconds

    @property
    def takes_weights(self) -> bool:
        """Whether the engine exchanges its full weights while it runs."""
        return takes_weights(self._settings.engine)

    def beside(self) -> "EngineHost":
        """Another place for an engine of the same replica, with a log and a record of its own."""
        return EngineHost(f"{self._id}{BESIDE}", self._settings, self._data_dir)

    def note(self, **changes: object) -> None:
        """Remember a change of the engine on disk, before or after it is made; see `EngineRecord`."""
        self._record = replace(self.record, **changes)  # type: ignore[arg-type]
        write_record(self._path, self._record)

    async def adopt(self) -> bool:
        """Take over the engine that an agent before this one left running, if it is certain what it serves."""
        record = read_record(self._path)
        if record is not None:
            process = EngineProcess(record.pid, record.born_at)
            self._process, self._record = process, record
            if process.alive() and record.phase == "serving" and record.settings_sha256 == self._settings_sha256():
                self._control = self._connect()
                if await self._serves_what_is_recorded(record):
                    return True
        await self.stop()
        return False

    async def start(self, release_id: str, folder: Path) -> None:
        """Start an engine on the weights in `folder`; returns when it has generated a token.

        Raises `StartupFailed`, quoting the engine's log; nothing is left running then.
        """
        await self.stop()
        last = read_record(self._path)
        port = free_port(last.port if last else None)
        try:
            await self._spawn(release_id, folder, port)
            async with asyncio.timeout(self._settings.engine.start_timeout_seconds):
                await self._until_ready(release_id)
        except TimeoutError as error:
            await self.stop()
            limit = self._settings.engine.start_timeout_seconds
            raise self._failed(f"generated no token within {limit:g} s (engine.start_timeout_seconds)") from error
        except BaseException:
            await self.stop()
            raise
        self.note(phase="serving")

    async def stop(self) -> None:
        """End the engine and all it started."""
        if self._control is not None:
            await self._control.close()
            self._control = None
        if self._process is not None:
            await self._process.stop()
            self._process = None
        await end_strays(self._path)

    async def _spawn(self, release_id: str, folder: Path, port: int) -> None:
        launcher = launcher_for(self._settings.engine)
        launch = await asyncio.to_thread(launcher.launch, self._settings.engine, folder, port, self._settings.devices)
        self.log.begin()
        self._process = EngineProcess.spawn(launch, self.log.path, self._path)
        self._record = EngineRecord(
            pid=self._process.pid,
            born_at=self._process.born_at,
            port=port,
            release_id=release_id,
            phase="loading",
            adapters=(),
            settings_sha256=self._settings_sha256(),
        )
        write_record(self._path, self._record)

    async def _until_ready(self, release_id: str) -> None:
        control = self._connect()
        self._control = control
        while True:
            if not self.alive:
                raise self._failed("ended while it was starting")
            try:
                await control.probe(WEIGHTS_NAME)
                await control.mark_weights(release_id)
                return
            except UpstreamError:
                await asyncio.sleep(READY_POLL_SECONDS)

    async def _serves_what_is_recorded(self, record: EngineRecord) -> bool:
        try:
            if await self.control.held_weights() != record.release_id:
                return False
            await self.control.probe(WEIGHTS_NAME)
        except UpstreamError:
            return False
        self.note(adapters=tuple([name for name in record.adapters if await self._answers_as(name)]))
        return True

    async def _answers_as(self, release_id: str) -> bool:
        try:
            await self.control.probe(engine_name(release_id))
        except UpstreamError:
            return False
        return True

    def _connect(self) -> EngineControl:
        return control_for(self._settings.engine, self.url, self._settings.devices)

    def _failed(self, what: str) -> StartupFailed:
        return StartupFailed(f"the engine {what}; {self.log.path} ends: {self.log.complaint()}")

    def _settings_sha256(self) -> str:
        return hashlib.sha256(self._settings.model_dump_json().encode()).hexdigest()
