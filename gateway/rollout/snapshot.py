"""Reads what the plan decides on."""

from collections.abc import Iterable, Sequence
from typing import cast

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.rollout import RolloutState
from gateway.rollout.facts import ReleaseFacts, ReplicaFacts, RolloutFacts, Snapshot
from gateway.rollout.measuring import trial_of
from gateway.storage.replicas import GIVEN, all_route_by_now, requests_in_flight
from gateway.storage.rollouts import open_rollout, promotion_of
from gateway.storage.tables import Alias, ReleaseRow, Replica, Rollout


async def snapshot_of(session: AsyncSession, alias_name: str, now: float) -> Snapshot:
    """Everything that concerns one alias."""
    alias = await session.get_one(Alias, alias_name)
    rollout = await open_rollout(session, alias_name)
    replicas = (await session.scalars(select(Replica).where(Replica.alias == alias_name).order_by(Replica.id))).all()
    idle = await _idle(session, replicas, now)
    promotion = await promotion_of(session, alias_name, alias.serving_release_id)
    concerned = {*_release_ids(alias, rollout), promotion.incumbent_id if promotion else ""}
    releases = (await session.scalars(select(ReleaseRow).where(ReleaseRow.id.in_(concerned)))).all()
    return Snapshot(
        serving_id=alias.serving_release_id,
        canary_id=alias.canary_release_id,
        swap=alias.swap,
        replicas=tuple(_replica(replica, replica.id in idle) for replica in replicas),
        releases={row.id: release_facts(row, releases) for row in releases},
        now=now,
        rollout=_rollout(rollout, releases),
        fallback_id=next((row.id for row in releases if promotion and _may_return(row, promotion)), None),
    )


def _may_return(row: ReleaseRow, promotion: Rollout) -> bool:
    usable = row.state in ("published", "retired") and row.blocked_by is None
    return usable and row.id == promotion.incumbent_id


def _release_ids(alias: Alias, rollout: Rollout | None) -> list[str]:
    ids = [alias.serving_release_id, alias.canary_release_id]
    if rollout is not None:
        ids += [rollout.candidate_id, rollout.incumbent_id]
    return [name for name in ids if name]


def _rollout(rollout: Rollout | None, releases: Sequence[ReleaseRow]) -> RolloutFacts | None:
    if rollout is None:
        return None
    state = cast(RolloutState, rollout.state)
    candidate = next((row for row in releases if row.id == rollout.candidate_id), None)
    trial = trial_of(rollout, candidate)
    share, incumbent = rollout.canary_share, rollout.incumbent_id
    return RolloutFacts(rollout.candidate_id, state, rollout.strategy, share, trial, incumbent)


def release_facts(row: ReleaseRow, others: Iterable[ReleaseRow] = ()) -> ReleaseFacts:
    """A release as the plan sees it; `others` may have brought an adapter that leads back to it."""
    derived = {}
    if (difference := row.manifest.get("difference")) is not None:
        derived[difference["incumbent_id"]] = difference["rank"]
    for other in others:
        if (reverse := other.manifest.get("reverse")) is not None and reverse["incumbent_id"] == row.id:
            derived[other.id] = reverse["rank"]
    return ReleaseFacts(row.id, row.base_release_id, row.adapter_rank or 0, derived)


async def _idle(session: AsyncSession, replicas: Sequence[Replica], now: float) -> set[str]:
    """Those of given addresses at which nothing is at work."""
    given = {replica.id for replica in replicas if replica.origin == GIVEN}
    if not given or not await all_route_by_now(session, now):
        return set()
    busy = await requests_in_flight(session, now)
    return {replica.id for replica in replicas if replica.id in given and replica.url not in busy}


def _replica(row: Replica, idle: bool) -> ReplicaFacts:
    return ReplicaFacts(
        id=row.id,
        ready=row.phase == "ready",
        managed=row.managed,
        weights_id=row.weights_release_id,
        adapters=frozenset(row.adapters),
        max_adapter_rank=row.max_adapter_rank,
        desired_weights_id=row.desired_weights_id,
        desired_adapters=frozenset(row.desired_adapters),
        swap_state=row.swap_state,
        swap_deadline=row.swap_deadline,
        swap_not_before=row.swap_not_before,
        in_place=row.in_place,
        given=row.origin == GIVEN,
        idle=idle,
        detail=row.detail,
    )
