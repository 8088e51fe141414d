"""Looks at every candidate that has traffic, every few seconds, and rolls a promoted one back that does harm.

What follows for a canary is the plan's to say, from what is written down here.
"""

from typing import Any

import structlog
from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.rollout import OPEN_STATES
from gateway.rollout.canary import reason_to_roll_back
from gateway.rollout.measuring import measure, trial_of
from gateway.rollout.plan import CANARY
from gateway.rollout.promotion import roll_back
from gateway.sections.canary import CanarySettings
from gateway.storage.database import Database
from gateway.storage.leases import Fence
from gateway.storage.routing_state import lock_alias
from gateway.storage.tables import Alias, ReleaseRow, Rollout

log = structlog.get_logger(__name__)


async def candidates(database: Database, rules: CanarySettings, now: float) -> list[str]:
    """The rollouts whose candidate has traffic and is to be looked at."""
    async with database.read() as session:
        return [row.id for row in await _watched(session, rules, now)]


async def look_at(database: Database, rollout_id: str, rules: CanarySettings, now: float, fence: Fence) -> None:
    """Measure a rollout, write down what was found, and roll it back if it is promoted and does harm.

    `fence` raises, before anything is written, if the caller was deposed.
    """
    async with database.read() as session:
        found = await _watched(session, rules, now, one=rollout_id)
        evidence = await measure(session, found[0], rules, now) if found else None
    if evidence is not None:
        await _note(database, rollout_id, evidence, rules, now, fence)


async def _watched(session: AsyncSession, rules: CanarySettings, now: float, one: str | None = None) -> list[Rollout]:
    serves = Alias.serving_release_id == Rollout.candidate_id
    newly_promoted = and_(Rollout.state == "promoted", Rollout.updated_at > now - rules.watch_seconds)
    statement = (
        select(Rollout)
        .join(Alias, Alias.name == Rollout.alias)
        .where(Rollout.kind == "promote", Rollout.step_began_at.is_not(None))
        .where(
            or_(
                and_(Rollout.state == "canary", Alias.canary_release_id == Rollout.candidate_id),
                and_(or_(Rollout.state == "promoting", newly_promoted), serves),
            )
        )
        .order_by(Rollout.updated_at.desc())
    )
    if one is not None:
        statement = statement.where(Rollout.id == one)
    rows = (await session.scalars(statement)).all()
    open_in = set(await session.scalars(select(Rollout.alias).where(Rollout.state.in_(OPEN_STATES))))
    # Of an alias whose next rollout is open, that one alone is looked at.
    newest = {row.alias: row for row in reversed(rows) if row.state != "promoted" or row.alias not in open_in}
    return list(newest.values())


async def _note(
    database: Database, rollout_id: str, evidence: dict[str, Any], rules: CanarySettings, now: float, fence: Fence
) -> None:
    async with database.write() as session:
        rollout = await session.get_one(Rollout, rollout_id)
        await lock_alias(session, rollout.alias)
        await fence(session)
        await session.refresh(rollout)
        unchanged = rollout.step_began_at == evidence["step_began_at"]
        if not unchanged or not await _watched(session, rules, now, one=rollout_id):
            return  # somebody moved it on while it was measured
        rollout.evidence = evidence
        trial = trial_of(rollout, None)
        bad = reason_to_roll_back(trial.signals) if trial else ""
        if rollout.state != "canary" and bad:
            await give_back(session, rollout, bad, rejected=True)


async def give_back(session: AsyncSession, rollout: Rollout, reason: str, *, rejected: bool) -> None:
    """Give the alias back to the incumbent, as a person would. A rejected candidate may not serve again, and no
    training begins by itself until a person has looked."""
    log.warning("canary_ended", alias=rollout.alias, rollout=rollout.id, rejected=rejected, reason=reason)
    await roll_back(session, rollout.alias, None, CANARY, reason, rollout.evidence)
    if rejected:
        (await session.get_one(ReleaseRow, rollout.candidate_id)).state = "rejected"
        alias = await session.get_one(Alias, rollout.alias)
        alias.auto_training_paused_reason = f"rollout {rollout.id} was rolled back: {reason}"
