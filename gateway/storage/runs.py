"""Training runs as rows: asked for, claimed by an aligner under a lease, followed, ended.

Every write of the aligner at work is fenced by its name: one that lost its lease can finish nothing.
"""

import time
from collections.abc import Collection, Sequence
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids, notice
from gateway.contracts.training import RunState, TrainingOptions, TriggerKind
from gateway.errors import Conflict
from gateway.storage.feedback_tables import Run, RunEvent
from gateway.storage.notifications import note
from gateway.storage.tables import Alias, ReleaseRow
from gateway.storage.webhooks import tell_of_end

MAX_ATTEMPTS = 5
"""A run whose aligner died this often is given up."""
OPEN_STATES = ("queued", "running")
UNFINISHED_STATES = (*OPEN_STATES, "paused")
"""A paused run works on nothing, and comes back to its data."""
Wish = Literal["cancel", "pause"]


class RunLeaseLost(Conflict):
    """Another aligner has taken the run over; whoever held it must stop."""

    code = "run_lease_lost"


async def create_run(
    session: AsyncSession,
    *,
    alias: str,
    trigger: TriggerKind,
    actor: str,
    options: TrainingOptions,
    now: float,
    **source: Any,
) -> Run:
    """A new run, queued behind those of its alias that are open.

    `source`: columns that say what it trains on and who asked for what; without them, the votes of the alias.
    """
    run = Run(
        id=ids.mint(ids.RUN),
        alias=alias,
        state="queued",
        trigger=trigger,
        actor=actor,
        options=options.model_dump(mode="json", by_alias=True),
        stage="queued",
        progress=0.0,
        cancel_requested=False,
        pause_requested=False,
        attempts=0,
        created_at=now,
        **({"asked": {}} | source),
    )
    session.add(run)
    await session.flush()
    return run


async def find_run(session: AsyncSession, run_id: str, *, locked: bool = False) -> Run | None:
    """The run with this id. `locked`: nobody else changes it in this transaction."""
    return await session.get(Run, run_id, with_for_update=locked or None)


async def list_runs(session: AsyncSession, alias: str | None = None, limit: int = 100) -> Sequence[Run]:
    """Runs, newest first."""
    statement = select(Run).order_by(Run.created_at.desc(), Run.id.desc()).limit(limit)
    if alias is not None:
        statement = statement.where(Run.alias == alias)
    return (await session.scalars(statement)).all()


async def earlier_runs(session: AsyncSession, alias: str, base_release_id: str, limit: int) -> Sequence[Run]:
    """Runs of the alias that made a release on that base and say what it took, newest first."""
    statement = (
        select(Run)
        .join(ReleaseRow, ReleaseRow.id == Run.release_id)
        .where(Run.alias == alias, Run.state == "succeeded", Run.effort.is_not(None))
        .where(ReleaseRow.base_release_id == base_release_id)
    )
    return (await session.scalars(statement.order_by(Run.finished_at.desc()).limit(limit))).all()


async def open_runs(session: AsyncSession, alias: str) -> int:
    """How many runs of the alias wait or are at work."""
    return await session.scalar(select(func.count()).where(Run.alias == alias, Run.state.in_(OPEN_STATES))) or 0


async def running_runs(session: AsyncSession) -> int:
    """How many runs are at work, of all aliases."""
    return await session.scalar(select(func.count()).where(Run.state == "running")) or 0


async def queue_position(session: AsyncSession, run: Run) -> int:
    """How many open runs of the same alias come before this one."""
    statement = select(func.count()).where(
        Run.alias == run.alias, Run.state.in_(OPEN_STATES), Run.created_at < run.created_at, Run.id != run.id
    )
    return await session.scalar(statement) or 0


async def trainable_now(session: AsyncSession) -> Sequence[Alias]:
    """Aliases that have a run to be claimed."""
    waiting = select(Run.alias).where(Run.state.in_(OPEN_STATES))
    return (await session.scalars(select(Alias).where(Alias.name.in_(waiting)))).all()


async def claim_next_run(
    session: AsyncSession, holder: str, lease_seconds: float, now: float, barred: Collection[str] = ()
) -> Run | None:
    """The next run to work on, now leased to `holder`: one at work per alias, abandoned ones first.

    Of `barred` aliases only runs that allow downtime are taken; the others wait.
    """
    statement = select(Run).where(Run.state.in_(OPEN_STATES)).order_by(Run.created_at, Run.id).with_for_update()
    runs = (await session.scalars(statement)).all()
    # Of all runs first: after a clock was set back, one at work may be younger than one that waits.
    busy = {run.alias for run in runs if run.state == "running" and (run.lease_expires_at or 0.0) > now}
    for run in sorted((run for run in runs if run.alias not in busy), key=lambda run: run.state != "running"):
        if run.attempts >= MAX_ATTEMPTS:
            why = f"given up after {run.attempts} attempts: {run.error or 'its aligner died'}"
            _end(session, run, "failed", now, why)
            await note(session, notice.run_failed(run.alias, run.id, run.error))
        elif run.cancel_requested:
            _end(session, run, "cancelled", now, None)
        elif run.pause_requested:
            _pause(run)
        elif run.alias not in barred or run.allow_downtime:
            run.state, run.holder, run.lease_expires_at = "running", holder, now + lease_seconds
            run.attempts, run.started_at = run.attempts + 1, run.started_at or now
            return run
    return None


async def renew_run_lease(
    session: AsyncSession, run_id: str, holder: str, lease_seconds: float, now: float, **progress: Any
) -> Wish | None:
    """Hold on to a run, noting `stage`, `progress` or `dataset_id` in passing; what somebody wishes of it meanwhile.

    Raises `RunLeaseLost` if somebody else has it by now.
    """
    run = await _held_run(session, run_id, holder)
    run.lease_expires_at = now + lease_seconds
    for name, value in progress.items():
        setattr(run, name, value)
    if run.cancel_requested:
        return "cancel"
    return "pause" if run.pause_requested else None


async def add_run_event(
    session: AsyncSession,
    run_id: str,
    message: str,
    *,
    type_: str = "message",
    level: str = "info",
    data: dict[str, Any] | None = None,
    at: float | None = None,
) -> None:
    """Write down something that happened in a run; `at` (default: now) is when, and sorts the events."""
    at = time.time() if at is None else at
    event = RunEvent(
        id="ftevent-" + ids.ulid(at),
        run_id=run_id,
        type=type_,
        level=level,
        message=message,
        data=data or {},
        at=at,
    )
    session.add(event)


async def list_run_events(session: AsyncSession, run_id: str) -> Sequence[RunEvent]:
    """The events of a run, oldest first."""
    return (await session.scalars(select(RunEvent).where(RunEvent.run_id == run_id).order_by(RunEvent.id))).all()


async def finish_run(
    session: AsyncSession,
    run_id: str,
    holder: str,
    state: RunState,
    now: float,
    *,
    release_id: str | None = None,
    error: str | None = None,
) -> None:
    """End a run. Raises `RunLeaseLost` if it is not the caller's to end."""
    run = await _held_run(session, run_id, holder)
    run.release_id = release_id
    _end(session, run, state, now, error)
    if state == "failed":
        await note(session, notice.run_failed(run.alias, run.id, error))


async def request_cancel(session: AsyncSession, run: Run, now: float) -> None:
    """Ask for a run to stop: at once if it waits, at the next step if it is at work. An ended run stays ended."""
    if run.state in ("queued", "paused"):
        _end(session, run, "cancelled", now, None)
    elif run.state == "running":
        run.cancel_requested = True


def request_pause(run: Run) -> None:
    """Ask for a run to pause: at once if it waits, behind a checkpoint if it is at work. An ended run stays ended."""
    if run.state == "queued":
        _pause(run)
    elif run.state == "running":
        run.pause_requested = True


def resume_run(run: Run) -> None:
    """Put a paused run back into the queue, or take a pause back that has not come about yet."""
    run.pause_requested = False
    if run.state == "paused":
        run.state = run.stage = "queued"


async def pause_run(session: AsyncSession, run_id: str, holder: str, **columns: Any) -> bool:
    """The aligner has stopped behind a checkpoint: pause the run. False if the wish was taken back meanwhile."""
    run = await _held_run(session, run_id, holder)
    if not run.pause_requested:
        return False
    for name, value in columns.items():
        setattr(run, name, value)
    _pause(run)
    return True


async def _held_run(session: AsyncSession, run_id: str, holder: str) -> Run:
    run = await session.get(Run, run_id, with_for_update=True)
    if run is None or run.holder != holder or run.state != "running":
        raise RunLeaseLost(f"run {run_id} is no longer held by {holder}")
    return run


def _pause(run: Run) -> None:
    run.state = run.stage = "paused"
    run.pause_requested = False
    run.holder = run.lease_expires_at = None


def _end(session: AsyncSession, run: Run, state: RunState, now: float, error: str | None) -> None:
    tell_of_end(session, run, state, now)
    run.state, run.finished_at, run.error = state, now, error
    run.holder = run.lease_expires_at = None
    run.pause_requested = False
    run.stage = state
    if state == "succeeded":
        run.progress = 1.0
