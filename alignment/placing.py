"""Find a run its place: a device with room, or one that an engine gives up for as long as the run takes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from alignment.devices import find_devices, has_unwatched_accelerator
from alignment.errors import AlignmentError, TrainingStopped
from alignment.ledger import RunLedger
from gateway.contracts.lending import Spare
from gateway.contracts.placement import CPU, Device, Need, NoDevice, Place, place
from gateway.contracts.tensor_file import count_values
from gateway.contracts.training import TrainingOptions
from gateway.sections.aligner import BORROW, AlignerSettings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.lending import LENT, find_spare, has_managed, lend, take_back
from gateway.storage.runs import trainable_now
from gateway.storage.tables import Alias, ReleaseRow, Replica

DRAIN_SECONDS = 900.0
"""An engine whose streams do not end by then is not borrowed this time."""
_POLL_SECONDS = 0.5

log = structlog.get_logger(__name__)


class NoEngineFree(AlignmentError):
    """No engine can be borrowed just now; later perhaps."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a run may train."""

    place: Place
    hides_gpus: bool
    """Whether there are GPUs that it must not see."""
    is_limited: bool
    """False where its accelerator's memory is not watched."""
    closes_at: float | None = None
    """When it has to stop for now, in unix seconds: with the maintenance window."""

    @property
    def arguments(self) -> list[str]:
        """For the training process."""
        if not self.is_limited:
            return []
        if self.place.device.name == CPU:
            return ["--memory-bytes", str(self.place.budget_bytes)]
        return ["--accelerator-share", f"{self.place.budget_bytes / self.place.device.total_bytes:.4f}"]

    @property
    def environment(self) -> dict[str, str]:
        """The same: the one device it sees."""
        if self.place.device.uuid is not None:
            return {"CUDA_VISIBLE_DEVICES": self.place.device.uuid}
        return {"CUDA_VISIBLE_DEVICES": ""} if self.hides_gpus else {}


async def barred_aliases(database: Database, settings: AlignerSettings, now: float) -> set[str]:
    """Aliases whose runs must wait, unless downtime was allowed: they would take the only engine outside the window."""
    if settings.devices != BORROW or (settings.window is not None and settings.window.closes_at(now) is not None):
        return set()
    barred = set()
    async with database.read() as session:
        for alias in await trainable_now(session):
            spare = await find_spare(session, alias)
            if await has_managed(session, alias) and (spare is None or spare.is_missed):
                barred.add(alias.name)
    return barred


@contextlib.asynccontextmanager
async def placed(
    database: Database, run: Run, settings: AlignerSettings, ledger: RunLedger, should_stop: Callable[[], bool]
) -> AsyncIterator[Placement]:
    """A place for as long as the block lasts; an engine that was borrowed for it is given back behind it.

    Raises `AlignmentError` if no device has room, `NoEngineFree` if no engine can be borrowed just now, and
    `TrainingStopped` once `should_stop` answers true while it waits for one.
    """
    async with contextlib.AsyncExitStack() as stack:
        spare = None
        if settings.devices == BORROW:
            spare = await stack.enter_async_context(_borrowed(database, run, settings, ledger, should_stop))
        devices = await asyncio.to_thread(find_devices)
        chosen = await _choose(database, run, settings, devices, spare)
        ledger.note(f"training on {chosen.reason}")
        unwatched = chosen.device.name == CPU and has_unwatched_accelerator()
        window = settings.window if spare is not None and spare.is_missed and not run.allow_downtime else None
        yield Placement(
            place=chosen,
            hides_gpus=chosen.device.name == CPU and len(devices) > 1,
            is_limited=not unwatched,
            closes_at=None if window is None else window.closes_at(time.time()),
        )


async def _choose(
    database: Database, run: Run, settings: AlignerSettings, devices: list[Device], spare: Spare | None
) -> Place:
    async with database.read() as session:
        alias = await session.get_one(Alias, run.alias)
        base = await session.get_one(ReleaseRow, alias.base_release_id)
    options = TrainingOptions.model_validate(run.options)
    names = settings.device_names if spare is None else spare.engine.device_names
    try:
        return place(names, devices, Need(options, await asyncio.to_thread(count_values, Path(base.location))))
    except NoDevice as error:
        raise AlignmentError(error.message) from error


@contextlib.asynccontextmanager
async def _borrowed(
    database: Database, run: Run, settings: AlignerSettings, ledger: RunLedger, should_stop: Callable[[], bool]
) -> AsyncIterator[Spare | None]:
    """An engine of the alias, stopped by its agent; None where the alias has none that an agent runs."""
    async with database.read() as session:
        if not await has_managed(session, await session.get_one(Alias, run.alias)):
            ledger.note("the alias has no engine that Alignway runs: nothing to borrow, free memory has to do")
            yield None
            return
    try:
        spare = await _lent(database, run, settings)
        ledger.note(f"borrowing the device of {spare.engine.id}: it is stopped once its open requests have ended")
        await _until_lent(database, spare.engine.id, should_stop)
        yield spare
    finally:
        await _give_back(database, run)


async def _lent(database: Database, run: Run, settings: AlignerSettings) -> Spare:
    window = settings.window
    is_open = window is not None and window.closes_at(time.time()) is not None
    async with database.write() as session:
        alias = await session.get_one(Alias, run.alias)
        spare = await lend(session, alias, run.id, may_be_missed=is_open or run.allow_downtime)
    if spare is None:
        raise NoEngineFree("no engine of the alias can be spared just now; the run waits for one")
    return spare


async def _until_lent(database: Database, replica_id: str, should_stop: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while not should_stop():
        async with database.read() as session:
            if (await session.get_one(Replica, replica_id)).phase == LENT:
                return
        if time.monotonic() > deadline:
            raise NoEngineFree(f"the streams of {replica_id} did not end within {DRAIN_SECONDS:.0f} s; the run waits")
        await asyncio.sleep(_POLL_SECONDS)
    raise TrainingStopped("stopped while it waited for an engine, as asked")


async def _give_back(database: Database, run: Run) -> None:
    try:
        async with database.write() as session:
            await take_back(session, run.alias, run.id)
    except Exception as error:  # whoever reconciles takes it back once the run is over, or its lease
        log.warning("engine_not_given_back", run_id=run.id, error=str(error))
