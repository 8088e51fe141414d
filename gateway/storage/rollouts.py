"""Rollouts as rows. Which step may follow which is `gateway/contracts/rollout.py`'s; here each is written down."""

import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.contracts.rollout import OPEN_STATES, RolloutState, check_step
from gateway.storage.tables import Rollout, RolloutStep


async def create_rollout(
    session: AsyncSession,
    *,
    alias: str,
    candidate_id: str,
    incumbent_id: str,
    strategy: str,
    canary_share: float,
    actor: str,
    reason: str,
) -> Rollout:
    """A new rollout, waiting."""
    now = time.time()
    rollout = Rollout(
        id=ids.mint(ids.ROLLOUT),
        alias=alias,
        candidate_id=candidate_id,
        incumbent_id=incumbent_id,
        state="waiting",
        strategy=strategy,
        canary_share=canary_share,
        actor=actor,
        reason=reason,
        detail="",
        created_at=now,
        updated_at=now,
    )
    session.add(rollout)
    await session.flush()
    return rollout


async def open_rollout(session: AsyncSession, alias: str) -> Rollout | None:
    """The rollout of an alias that has not ended; there is at most one."""
    statement = select(Rollout).where(Rollout.alias == alias, Rollout.state.in_(OPEN_STATES))
    return await session.scalar(statement.order_by(Rollout.created_at))


async def transition(session: AsyncSession, rollout: Rollout, to: RolloutState, actor: str, reason: str) -> None:
    """Take one step and record it. Raises `Conflict` for a step that is not listed."""
    check_step(rollout.state, to)
    now = time.time()
    step = RolloutStep(
        id=ids.mint("step_"),
        rollout_id=rollout.id,
        from_state=rollout.state,
        to_state=to,
        actor=actor,
        reason=reason,
        at=now,
    )
    rollout.state, rollout.updated_at, rollout.detail = to, now, reason
    session.add(step)
    await session.flush()


async def list_rollouts(session: AsyncSession, alias: str | None = None, limit: int = 100) -> Sequence[Rollout]:
    """Rollouts, newest first."""
    statement = select(Rollout).order_by(Rollout.created_at.desc()).limit(limit)
    if alias is not None:
        statement = statement.where(Rollout.alias == alias)
    return (await session.scalars(statement)).all()


async def steps_of(session: AsyncSession, rollout_id: str) -> Sequence[RolloutStep]:
    """What happened in a rollout, in order."""
    statement = select(RolloutStep).where(RolloutStep.rollout_id == rollout_id).order_by(RolloutStep.id)
    return (await session.scalars(statement)).all()


async def promotion_of(session: AsyncSession, alias: str, release_id: str) -> Rollout | None:
    """The newest rollout that made `release_id` the serving release of the alias."""
    statement = (
        select(Rollout)
        .where(Rollout.alias == alias, Rollout.candidate_id == release_id, Rollout.state == "promoted")
        .order_by(Rollout.created_at.desc())
    )
    return await session.scalar(statement)
