"""Begins the canaries that need no person: `canary.unattended`, and gates that let the release go alone."""

import structlog
from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import AlignwayError
from gateway.rollout.promotion import Promotion, promote
from gateway.rollout.unattended import gates_of, unattended_ok
from gateway.sections.canary import CanarySettings
from gateway.storage.database import Database
from gateway.storage.leases import Fence, LeaseLost
from gateway.storage.rollouts import open_rollout
from gateway.storage.tables import Alias, ReleaseRow, Rollout

ACTOR = "unattended"

log = structlog.get_logger(__name__)


async def begin_canaries(database: Database, rules: CanarySettings, now: float, fence: Fence) -> None:
    """With `canary.unattended`, begin the canary of each alias's newest release that needs no person.

    Only of a release that was measured against what serves now, that was never tried, and while nobody paused the
    alias. `fence` raises if the caller was deposed, before each write.
    """
    if not rules.unattended:
        return
    async with database.read() as session:
        aliases = (await session.scalars(select(Alias).where(Alias.auto_training_paused_reason.is_(None)))).all()
        found = [await _wanted(session, alias, rules.steps[0]) for alias in aliases]
    for asked in found:
        if asked is not None:
            await _begin(database, asked, now, fence)


async def _wanted(session: AsyncSession, alias: Alias, share: float) -> Promotion | None:
    """The promotion to ask for, with why it needs no person."""
    if await open_rollout(session, alias.name) is not None:
        return None
    newest = await session.scalar(
        select(ReleaseRow)
        .where(
            ReleaseRow.alias == alias.name,
            ReleaseRow.kind != "base",
            ReleaseRow.state == "published",
            ReleaseRow.parent_id == alias.serving_release_id,
            ~exists().where(Rollout.candidate_id == ReleaseRow.id),
        )
        .order_by(ReleaseRow.created_at.desc())
        .limit(1)
    )
    if newest is None:
        return None
    may, why = unattended_ok(gates_of(newest.manifest))
    if not may:
        return None
    return Promotion(alias.name, newest.id, "canary", ACTOR, why, alias.serving_release_id, share)


async def _begin(database: Database, asked: Promotion, now: float, fence: Fence) -> None:
    try:
        async with database.write() as session:
            await fence(session)
            await promote(session, asked, now)
    except LeaseLost:
        raise
    except AlignwayError as error:  # somebody was quicker, or no engine can hold it: tell, and look again later
        log.warning("canary_not_begun", alias=asked.alias, release=asked.release, error=error.message)
    else:
        log.info("canary_begun", alias=asked.alias, release=asked.release, reason=asked.reason)
