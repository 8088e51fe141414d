"""When to train without being asked: at an interval, or when enough new pairs have come in.

What was last done is read from the runs themselves, so a restart neither misses a run nor doubles one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.training import TrainingOptions, TriggerKind
from gateway.datasets.settle import settle
from gateway.settings import AlignerSettings, Settings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import PairRow, PromptSide, Run
from gateway.storage.leases import Fence
from gateway.storage.routing_state import lock_alias
from gateway.storage.runs import create_run
from gateway.storage.tables import Alias

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
NEW_SHARE = 0.2
"""An automatic run wants this share of the pairs to be new, or `STALE_SECONDS` to have passed."""
STALE_SECONDS = 7 * 86400.0

_TRAINABLE = select(Alias.name).where(Alias.task == "chat", Alias.auto_training_paused_reason.is_(None))

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PairCounts:
    """The eligible pairs of an alias, before the rules of data sets."""

    train: int
    holdout: int
    new: int
    """Became eligible since the last run began."""


IsEnough = Callable[[str, PairCounts], bool]
"""By alias and its eligible pairs."""


@dataclass(frozen=True)
class LastRun:
    """The newest run of an alias."""

    created_at: float
    open: bool


def due(
    settings: AlignerSettings, pairs: PairCounts, last: LastRun | None, since: float, now: float
) -> TriggerKind | None:
    """The trigger that fires now, if any. `since`: when the alias was made, for the first interval."""
    if last is not None and last.open:
        return None
    if pairs.train < settings.auto_min_train_pairs or pairs.holdout < settings.auto_min_holdout_pairs:
        return None
    waited = now - (last.created_at if last else since)
    fresh = last is None or pairs.new >= NEW_SHARE * (pairs.train + pairs.holdout) or waited >= STALE_SECONDS
    if not fresh or pairs.new == 0:
        return None
    if settings.min_new_pairs is not None and pairs.new >= settings.min_new_pairs:
        return "new_pairs"
    if settings.every is not None and waited >= interval_seconds(settings.every):
        return "schedule"
    return None


def interval_seconds(every: str) -> float:
    """`90s`, `15m`, `12h` or `7d` in seconds."""
    return float(every[:-1]) * UNIT_SECONDS[every[-1]]


async def start_due_runs(
    database: Database, all_settings: Settings, now: float, fence: Fence, enough: IsEnough
) -> None:
    """Queue a run for every alias whose trigger fires and whose data set would be large enough.

    fence   raises if the caller was deposed, before each write
    enough  whether a data set of the alias would be
    """
    settings = all_settings.aligner
    if settings.every is None and settings.min_new_pairs is None:
        return
    async with database.read() as session:
        trainable = list(await session.scalars(_TRAINABLE))
    for name in trainable:
        await settle(database, name, all_settings.datasets)
    async with database.read() as session:
        names = [name for name in trainable if await _due_for(session, name, settings, now)]
    for name in names:
        async with database.write() as session:
            await lock_alias(session, name)
            await fence(session)
            trigger = await _due_for(session, name, settings, now)
            if trigger is not None and enough(name, await count_pairs(session, name)):
                run = await create_run(
                    session, alias=name, trigger=trigger, actor="trigger", options=TrainingOptions(), now=now
                )
                log.info("run_triggered", alias=name, run_id=run.id, trigger=trigger)


async def _due_for(session: AsyncSession, alias: str, settings: AlignerSettings, now: float) -> TriggerKind | None:
    newest = await session.scalar(select(Run).where(Run.alias == alias).order_by(Run.created_at.desc()).limit(1))
    last = None if newest is None else LastRun(newest.created_at, newest.state in ("queued", "running"))
    made_at = (await session.get_one(Alias, alias)).created_at
    pairs = await count_pairs(session, alias, last.created_at if last else 0.0)
    return due(settings, pairs, last, made_at, now)


async def count_pairs(session: AsyncSession, alias: str, since: float = 0.0) -> PairCounts:
    """How many pairs of its own project could train and measure the alias, and how many came after `since`."""
    counted = (
        select(PromptSide.side, func.count(), func.count().filter(PairRow.created_at > since))
        .join(PromptSide, (PromptSide.alias == PairRow.alias) & (PromptSide.prompt_hash == PairRow.prompt_hash))
        .join(Alias, (Alias.name == PairRow.alias) & (Alias.project_id == PairRow.project_id))
        .where(PairRow.alias == alias, PairRow.state == "eligible", PromptSide.bridges.is_(False))
        .group_by(PromptSide.side)
    )
    rows = {side: (total, new) for side, total, new in await session.execute(counted)}
    train, holdout = rows.get("train", (0, 0)), rows.get("holdout", (0, 0))
    return PairCounts(train[0], holdout[0], train[1] + holdout[1])
