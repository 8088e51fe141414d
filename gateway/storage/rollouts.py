"""Rollouts as rows. Which step may follow which is `gateway/contracts/rollout.py`'s; here each is written down."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import set_committed_value

from gateway.contracts import ids, notice
from gateway.contracts.rollout import OPEN_STATES, RolloutKind, RolloutState, check_step
from gateway.errors import Conflict
from gateway.storage.notifications import note
from gateway.storage.tables import ReleaseRow, Replica, Rollout, RolloutStep


async def create_rollout(
    session: AsyncSession,
    *,
    alias: str,
    kind: RolloutKind = "promote",
    candidate_id: str,
    incumbent_id: str,
    strategy: str,
    canary_share: float,
    actor: str,
    reason: str,
    evidence: dict[str, Any] | None = None,
) -> Rollout:
    """A new rollout, waiting. Raises `Conflict` if the alias has an open one: the database allows no second."""
    now = time.time()
    rollout = Rollout(
        id=ids.mint(ids.ROLLOUT),
        alias=alias,
        kind=kind,
        candidate_id=candidate_id,
        incumbent_id=incumbent_id,
        state="waiting",
        strategy=strategy,
        canary_share=canary_share,
        actor=actor,
        reason=reason,
        step=0,
        restarts_before={},
        evidence=evidence,
        created_at=now,
        updated_at=now,
    )
    await _insert(session, rollout)
    if kind == "rollback":
        await _tell(session, rollout, "begun", actor, reason)
    return rollout


async def _insert(session: AsyncSession, rollout: Rollout) -> None:
    session.add(rollout)
    try:
        await session.flush()
    except IntegrityError as error:
        raise Conflict(f"A rollout of `{rollout.alias}` was begun just now.", code="rollout_in_progress") from error


async def open_rollout(session: AsyncSession, alias: str) -> Rollout | None:
    """The rollout of an alias that has not ended; there is at most one."""
    statement = select(Rollout).where(Rollout.alias == alias, Rollout.state.in_(OPEN_STATES))
    return await session.scalar(statement.order_by(Rollout.created_at))


async def transition(session: AsyncSession, rollout: Rollout, to: RolloutState, actor: str, reason: str) -> None:
    """Take one step and record it with the evidence at hand.

    Raises `Conflict` for a step that is not listed, or if somebody else took one.
    """
    before, now = rollout.state, time.time()
    check_step(before, to)
    await _compare_and_swap(session, rollout, before, {"state": to, "updated_at": now, "detail": reason})
    await _record(session, rollout, before, to, actor, reason)
    if to in ("rolled_back", "stopped"):
        done = "done" if to == "rolled_back" else "stopped"
        await _tell(session, rollout, done if rollout.kind == "promote" else "failed", actor, reason)


async def raise_share(session: AsyncSession, rollout: Rollout, share: float, actor: str, reason: str) -> None:
    """Give the candidate a greater share and record it. Raises `Conflict` if the canary has ended meanwhile."""
    detail = f"{rollout.canary_share:.0%} to {share:.0%}: {reason}"
    values = {"canary_share": share, "updated_at": time.time(), "detail": detail}
    await _compare_and_swap(session, rollout, "canary", values)
    await _record(session, rollout, "canary", "canary", actor, detail)


async def begin_step(session: AsyncSession, rollout: Rollout, now: float) -> None:
    """From here on, evidence is counted anew."""
    replicas = await session.execute(select(Replica.id, Replica.restarts).where(Replica.alias == rollout.alias))
    rollout.step += 0 if rollout.step_began_at is None else 1
    rollout.step_began_at, rollout.evidence = now, None
    rollout.restarts_before = {row.id: row.restarts for row in replicas}
    await session.flush()


async def _record(session: AsyncSession, rollout: Rollout, before: str, after: str, actor: str, reason: str) -> None:
    step = RolloutStep(
        id=ids.mint("step_"),
        rollout_id=rollout.id,
        from_state=before,
        to_state=after,
        actor=actor,
        reason=reason,
        evidence=rollout.evidence,
        at=time.time(),
    )
    session.add(step)
    await session.flush()


async def _tell(session: AsyncSession, rollout: Rollout, what: str, actor: str, reason: str) -> None:
    """Have people told of a rollback; one that fails leaves what it was to replace."""
    back_to, left = rollout.incumbent_id, rollout.candidate_id
    if rollout.kind == "rollback" and what == "begun":
        back_to, left = left, back_to
    named = select(ReleaseRow.id, ReleaseRow.name).where(ReleaseRow.id.in_((back_to, left)))
    names = {row[0]: row[1] for row in await session.execute(named)}
    told = {"left": names.get(left, left), "back_to": names.get(back_to, back_to), "actor": actor, "reason": reason}
    await note(session, notice.rollback(rollout.alias, rollout.id, what=what, **told))


async def _compare_and_swap(session: AsyncSession, rollout: Rollout, before: str, values: dict[str, object]) -> None:
    await session.flush()
    statement = update(Rollout).where(Rollout.id == rollout.id, Rollout.state == before).values(values)
    result = await session.execute(statement.execution_options(synchronize_session=False))
    if result.rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict(f"Rollout {rollout.id} is no longer {before}.", code="rollout_moved_on")
    for name, value in values.items():
        set_committed_value(rollout, name, value)


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
    """The newest promotion, rollbacks left out, that made `release_id` the serving release of the alias."""
    statement = (
        select(Rollout)
        .where(
            Rollout.alias == alias,
            Rollout.kind == "promote",
            Rollout.candidate_id == release_id,
            Rollout.state == "promoted",
        )
        .order_by(Rollout.created_at.desc())
    )
    return await session.scalar(statement)
