"""Poll for training runs and carry them out, one at a time. Every way a run can end is decided here."""

import asyncio
import contextlib
import errno
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from alignment.cycle import run_cycle, run_folder
from alignment.errors import AlignmentError, TrainingStopped
from alignment.freezing import Rules
from alignment.jobs.client import TrainerDied, TrainerProcess, trainer_process
from alignment.ledger import RunLedger
from alignment.placing import NoEngineFree, Placement, barred_aliases, placed
from alignment.presence import announce_presence, sign_off
from alignment.publish import release_location, remove_unfinished
from gateway.contracts import ids
from gateway.sections.aligner import AlignerSettings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import RunLeaseLost, claim_next_run

LEASE_SECONDS = 15.0
_STOP_SECONDS = 15.0
_RETRY_SECONDS = 2.0
_STUMBLE_SECONDS = 5.0
_ENGINE_SECONDS = 60.0
"""A run that found no engine to borrow is tried again after this long."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Worker:
    """One aligner. `stopping`, once set, ends it behind a checkpoint; the run goes to whoever asks next."""

    database: Database
    store: Path
    rules: Rules = field(default_factory=Rules)
    aligner: AlignerSettings = field(default_factory=AlignerSettings)
    poll_seconds: float = 1.0
    lease_seconds: float = LEASE_SECONDS
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    holder: str = field(default_factory=lambda: ids.mint("aligner_"))

    async def serve(self, once: bool = False) -> None:
        """Work until told to stop; with `once`, until no run waits."""
        presence = asyncio.create_task(announce_presence(self.database, self.holder))
        try:
            await self._serve(once)
        finally:
            presence.cancel()
            await asyncio.gather(presence, return_exceptions=True)
            await sign_off(self.database, self.holder)

    async def _serve(self, once: bool) -> None:
        while not self.stopping.is_set():
            try:
                worked = await self.work_once()
            except Exception as error:  # a database that is away comes back; its lease ends a run nobody can write to
                log.exception("aligner_stumbled", error=str(error))
                await self._pause(_STUMBLE_SECONDS)
                continue
            if once and not worked:
                return
            if not worked:
                await self._pause(self.poll_seconds)

    async def work_once(self) -> bool:
        """Claim the next run and bring it as far as it goes; false if none waits."""
        barred = await barred_aliases(self.database, self.aligner, time.time())
        async with self.database.write() as session:
            run = await claim_next_run(session, self.holder, self.lease_seconds, time.time(), barred)
        if run is None:
            return False
        log.info("run_claimed", run_id=run.id, alias=run.alias, attempt=run.attempts)
        ledger = RunLedger(self.database, run.id, self.holder, self.lease_seconds)
        try:
            async with ledger.kept():
                await self._carry_out(run, ledger)
        except RunLeaseLost:
            log.warning("run_lost", run_id=run.id)
        return True

    async def _carry_out(self, run: Run, ledger: RunLedger) -> None:
        try:
            signs = self._signs(ledger)
            async with placed(
                self.database, run, self.aligner, ledger, lambda: any(sign.is_set() for sign in signs)
            ) as placement:
                await self._train(run, ledger, placement)
            log.info("run_succeeded", run_id=run.id)
        except TrainingStopped:
            await self._stopped(run, ledger)
        except NoEngineFree as error:
            ledger.note(error.message, level="warning")
            await ledger.give_back(_ENGINE_SECONDS, attempts=run.attempts - 1)  # waiting is no failed attempt
        except TrainerDied as death:
            await self._try_again(run, ledger, death.message)
        except AlignmentError as error:
            await self._fail(run, ledger, error.message)
        except RunLeaseLost:
            raise
        except Exception as error:
            log.exception("run_stumbled", run_id=run.id)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                await self._fail(run, ledger, f"the disk is full: {error}; free some space and train again")
            else:
                await self._try_again(run, ledger, f"{type(error).__name__}: {error}")

    async def _train(self, run: Run, ledger: RunLedger, placement: Placement) -> None:
        log_file = run_folder(self.store, run.id) / "trainer.log"
        async with trainer_process(log_file, placement.arguments, placement.environment) as trainer:
            cycle = run_cycle(self.database, self.store, run, self.rules, ledger, trainer)
            await self._until_told(cycle, ledger, trainer, placement.closes_at)

    async def _until_told(
        self, cycle: Coroutine[Any, Any, None], ledger: RunLedger, trainer: TrainerProcess, closes_at: float | None
    ) -> None:
        """Run the cycle until it ends, or until it must stop: told to, cancelled or paused, or its lease lost."""
        task = asyncio.create_task(cycle)
        signs: list[asyncio.Task[Any]] = [asyncio.create_task(sign.wait()) for sign in self._signs(ledger)]
        if closes_at is not None:
            signs.append(asyncio.create_task(asyncio.sleep(closes_at - time.time())))
        try:
            await asyncio.wait([task, *signs], return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not ledger.lost.is_set():
                await trainer.stop()
                await asyncio.wait([task], timeout=_STOP_SECONDS)
            if task.done():
                return task.result()
        finally:
            for waiting in (task, *signs):
                waiting.cancel()
            await asyncio.gather(task, *signs, return_exceptions=True)
        if ledger.lost.is_set():
            raise RunLeaseLost(f"run {ledger.run_id} is no longer held by {ledger.holder}")
        raise TrainingStopped("stopped in the middle, as asked")

    def _signs(self, ledger: RunLedger) -> tuple[asyncio.Event, ...]:
        """Each a reason to stop for now."""
        return (self.stopping, ledger.cancel_requested, ledger.pause_requested, ledger.lost)

    async def _stopped(self, run: Run, ledger: RunLedger) -> None:
        if ledger.cancel_requested.is_set():
            self._clean_up(run)
            ledger.note("cancelled")
            await ledger.finish("cancelled")
        elif ledger.pause_requested.is_set() and not self.stopping.is_set():
            await self._paused(run, ledger)
        else:
            why = "the aligner was stopped" if self.stopping.is_set() else "the maintenance window closed"
            ledger.note(f"{why}; the run goes on from its newest checkpoint with the next one")
            # A stop is no failed attempt.
            await ledger.give_back(0.0, attempts=run.attempts - 1)
        log.info("run_stopped", run_id=run.id)

    async def _paused(self, run: Run, ledger: RunLedger) -> None:
        ledger.note("paused; once resumed, the run goes on from its newest checkpoint")
        # Neither a pause nor a wish for one that was taken back is a failed attempt.
        if not await ledger.pause(attempts=run.attempts - 1):
            await ledger.give_back(0.0, attempts=run.attempts - 1)

    async def _try_again(self, run: Run, ledger: RunLedger, why: str) -> None:
        log.warning("run_interrupted", run_id=run.id, attempt=run.attempts, error=why)
        ledger.note(f"attempt {run.attempts} broke off: {why}", level="warning")
        await ledger.give_back(_RETRY_SECONDS * run.attempts, error=why)

    async def _fail(self, run: Run, ledger: RunLedger, why: str) -> None:
        log.warning("run_failed", run_id=run.id, error=why)
        self._clean_up(run)
        ledger.note(why, level="error")
        await ledger.finish("failed", error=why)

    def _clean_up(self, run: Run) -> None:
        """While the run is still ours: nobody else stages a release of its alias."""
        remove_unfinished((self.store / release_location(run.alias, run.id)).parent)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
