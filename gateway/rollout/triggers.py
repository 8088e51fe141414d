"""When to train without being asked: at planned times, or when enough new pairs have come in.

What was last done is read from the runs and from the alias itself, so a restart neither misses a run nor doubles one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.calendar.cron import Interval
from gateway.calendar.wall_clock import zone_named
from gateway.contracts.training import TrainingOptions, TriggerKind
from gateway.datasets.settle import settle
from gateway.rollout.planned import Planned, Stored, planned
from gateway.settings import AlignerSettings, Settings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import PairRow, PromptSide
from gateway.storage.leases import Fence
from gateway.storage.routing_state import lock_alias
from gateway.storage.runs import create_run
from gateway.storage.schedules import advance_schedule, has_open_run, last_run_at
from gateway.storage.tables import Alias

NEW_SHARE = 0.2
"""An automatic run wants this share of the pairs to be new, or `STALE_SECONDS` to have passed."""
STALE_SECONDS = 7 * 86400.0
AHEAD_SECONDS = 86400.0
"""Of runs from further in the future than this a clock that was set back knows nothing."""
ACTOR = "trigger"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PairCounts:
    """The eligible pairs of an alias, before the rules of data sets."""

    train: int
    holdout: int
    new: int
    """Became eligible since the last run began."""


IsEnough = Callable[[str, PairCounts], bool | None]
"""By alias and its eligible pairs, whether a data set would be large enough; None while that is being counted."""


@dataclass(frozen=True)
class Verdict:
    """What is to be done about an alias now."""

    trigger: TriggerKind | None = None
    until: float | None = None
    """Planned instants up to here are dealt with; None: as before."""
    remark: str | None = None
    """Why a planned run is left out."""


def judge(
    settings: AlignerSettings,
    paused: str | None,
    pairs: PairCounts,
    waited: float | None,
    plan: Planned | None,
    is_enough: bool = True,
) -> Verdict:
    """Which trigger fires, if no run is open.

    waited     seconds since the last run was asked for, if there was one
    is_enough  whether a data set would hold as many pairs as a run by itself waits for
    """
    why_not = f"automatic training is paused: {paused}" if paused else _why_not(settings, pairs, waited)
    if why_not is None and not is_enough:
        why_not = "a data set would hold too few of the pairs (alignway dataset build --dry-run)"
    if why_not is None and settings.min_new_pairs is not None and pairs.new >= settings.min_new_pairs:
        return Verdict("new_pairs", None if plan is None else plan.until)
    if plan is None:
        return Verdict()
    if plan.due_at is None:
        return Verdict(until=plan.until)
    if why_not is None:
        return Verdict("schedule", plan.due_at)
    if isinstance(settings.calendar, Interval):  # an interval that is over stays over until there is enough
        return Verdict(until=plan.until)
    return Verdict(until=plan.due_at, remark=why_not)


async def start_due_runs(
    database: Database, all_settings: Settings, now: float, fence: Fence, enough: IsEnough
) -> None:
    """Queue a run for every alias whose trigger fires and whose data set would be large enough.

    fence   raises if the caller was deposed, before each write
    enough  whether a data set of the alias would be; it is asked again while that is not known
    """
    settings = all_settings.aligner
    if settings.calendar is None and settings.min_new_pairs is None:
        return
    async with database.read() as session:
        trainable = list(await session.scalars(select(Alias).where(Alias.task == "chat")))
    for alias in trainable:
        if alias.auto_training_paused_reason is None:
            await settle(database, alias.name, all_settings.datasets)
    for alias in trainable:
        async with database.read() as session:
            verdict = await _verdict(session, alias, settings, now, enough)
        if verdict.trigger is not None or not _is_known(alias, settings, verdict):
            async with database.write() as session:
                await _carry_out(session, alias.name, settings, now, fence, enough)


async def plan_of(session: AsyncSession, alias: Alias, settings: AlignerSettings, now: float) -> Planned | None:
    """Where the schedule of an alias stands; None without one."""
    calendar, text = settings.calendar, settings.calendar_text
    if calendar is None or text is None:
        return None
    begun_at = await last_run_at(session, alias.name, now) or alias.created_at
    return planned(calendar, text, Stored(alias.schedule, alias.scheduled_until, begun_at), now)


async def automatic_views(
    session: AsyncSession, settings: AlignerSettings, now: float, alias: str | None = None
) -> list[dict[str, Any]]:
    """For operators: whether and when each alias, or one, is trained without being asked."""
    wanted = select(Alias).where(Alias.task == "chat").order_by(Alias.name)
    found = await session.scalars(wanted if alias is None else wanted.where(Alias.name == alias))
    return [await _automatic_view(session, one, settings, now) for one in found.all()]


async def _automatic_view(session: AsyncSession, alias: Alias, settings: AlignerSettings, now: float) -> dict[str, Any]:
    plan = await plan_of(session, alias, settings, now)
    paused = alias.auto_training_paused_reason
    return {
        "object": "alias.automatic_training",
        "alias": alias.name,
        "schedule": settings.calendar_text,
        "min_new_pairs": settings.min_new_pairs,
        "paused_reason": paused,
        "next_planned_at": None if plan is None or paused else int(max(plan.next_at, now)),
        "left_out": alias.schedule_remark,
    }


async def _carry_out(
    session: AsyncSession, name: str, settings: AlignerSettings, now: float, fence: Fence, enough: IsEnough
) -> None:
    alias = await lock_alias(session, name)
    await fence(session)
    if alias is None:
        return
    verdict = await _verdict(session, alias, settings, now, enough)
    if verdict.until is not None:
        remark = verdict.remark and f"{shown_time(verdict.until, settings)}: {verdict.remark}"
        if not await advance_schedule(session, alias, settings.calendar_text, verdict.until, remark):
            return
    if verdict.remark is not None:
        log.info("planned_run_left_out", alias=name, planned_at=verdict.until, reason=verdict.remark)
    if verdict.trigger is not None:
        run = await create_run(
            session, alias=name, trigger=verdict.trigger, actor=ACTOR, options=TrainingOptions(), now=now
        )
        log.info("run_triggered", alias=name, run_id=run.id, trigger=verdict.trigger)


def shown_time(instant: float, settings: AlignerSettings) -> str:
    """An instant as the operator's clock shows it."""
    return f"{datetime.fromtimestamp(instant, zone_named(settings.time_zone)):%a %Y-%m-%d %H:%M %Z}"


async def _verdict(
    session: AsyncSession, alias: Alias, settings: AlignerSettings, now: float, enough: IsEnough
) -> Verdict:
    if await has_open_run(session, alias.name):
        return Verdict()
    last_at = await last_run_at(session, alias.name, now + AHEAD_SECONDS)
    pairs = await count_pairs(session, alias.name, last_at or 0.0)
    plan = await plan_of(session, alias, settings, now)
    waited = None if last_at is None else now - last_at
    verdict = judge(settings, alias.auto_training_paused_reason, pairs, waited, plan)
    is_enough = enough(alias.name, pairs) if verdict.trigger is not None else True
    if is_enough is None:
        return Verdict()
    return verdict if is_enough else judge(settings, None, pairs, waited, plan, is_enough=False)


def _is_known(alias: Alias, settings: AlignerSettings, verdict: Verdict) -> bool:
    stored = (alias.schedule, alias.scheduled_until)
    return verdict.until is None or stored == (settings.calendar_text, verdict.until)


def _why_not(settings: AlignerSettings, pairs: PairCounts, waited: float | None) -> str | None:
    """Why no run may begin by itself, if none may."""
    if pairs.train < settings.auto_min_train_pairs:
        return f"{pairs.train} of {settings.auto_min_train_pairs} pairs to train on (aligner.auto_min_train_pairs)"
    if pairs.holdout < settings.auto_min_holdout_pairs:
        return f"{pairs.holdout} of {settings.auto_min_holdout_pairs} pairs held out (aligner.auto_min_holdout_pairs)"
    if pairs.new == 0:
        return "no pair is new since the last run"
    total = pairs.train + pairs.holdout
    if waited is not None and waited < STALE_SECONDS and pairs.new < NEW_SHARE * total:
        return f"only {pairs.new} of {total} pairs are new since the last run, which is less than a week old"
    return None


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
