"""What an operator may ask of an alias: promote a release, roll back. Each is only a change of desired state.

The checks are here; the work is the reconciler's.
"""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.release import Release
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.rollout.plan import fits_as_adapter
from gateway.rollout.snapshot import release_facts, snapshot_of
from gateway.storage import routing_state
from gateway.storage.releases import find_release
from gateway.storage.rollouts import create_rollout, open_rollout, promotion_of, transition
from gateway.storage.tables import Alias, ReleaseRow, Replica, Rollout

Strategy = Literal["immediate", "canary"]


@dataclass(frozen=True)
class Promotion:
    """A request to serve `release` under `alias`."""

    alias: str
    release: str
    """Id or name."""
    strategy: Strategy
    actor: str
    reason: str = ""
    expected_current: str | None = None
    """Compare-and-swap: refuse if the alias serves anything else by now."""
    canary_share: float = 0.05


async def find_alias(session: AsyncSession, name: str) -> Alias:
    """The alias, or `NotFound` that names those there are."""
    alias = await session.get(Alias, name)
    if alias is None:
        known = ", ".join(await session.scalars(select(Alias.name).order_by(Alias.name))) or "none"
        raise NotFound(f"There is no alias `{name}`; there are: {known}.", param="alias", code="alias_not_found")
    return alias


async def promote(session: AsyncSession, asked: Promotion, now: float) -> Rollout:
    """Open a rollout. Raises `NotFound`, `Conflict` or `InvalidRequest`, each saying what to do."""
    alias = await find_alias(session, asked.alias)
    release = await _find_release(session, alias, asked.release)
    _check_current(alias, asked.expected_current)
    _check_release(alias, release, asked.reason)
    await _check_replicas(session, alias)
    current = await open_rollout(session, alias.name)
    if current is not None:
        return _hasten(current, release, asked)
    if asked.strategy == "canary":
        await _check_canary(session, alias, release, now)
    return await create_rollout(
        session,
        alias=alias.name,
        candidate_id=release.id,
        incumbent_id=alias.serving_release_id,
        strategy=asked.strategy,
        canary_share=asked.canary_share if asked.strategy == "canary" else 0.0,
        actor=asked.actor,
        reason=asked.reason,
    )


async def roll_back(session: AsyncSession, alias_name: str, release: str | None, actor: str, reason: str) -> Rollout:
    """Give the alias back to what it served before, or to the release named. Ends a rollout that is under way."""
    alias = await find_alias(session, alias_name)
    current = await open_rollout(session, alias.name)
    if current is not None and release is None:
        await routing_state.reject_candidate(session, alias.name, current.candidate_id, actor, reason)
        return current
    if current is not None:
        raise Conflict(
            f"Rollout {current.id} is under way; roll back without naming a release to end it first.",
            code="rollout_in_progress",
        )
    target = await _rollback_target(session, alias, release)
    rollout = await create_rollout(
        session,
        alias=alias.name,
        candidate_id=target.id,
        incumbent_id=alias.serving_release_id,
        strategy="immediate",
        canary_share=0.0,
        actor=actor,
        reason=reason,
    )
    for state in ("canary", "promoting"):
        await transition(session, rollout, state, actor, reason or "rollback")
    return rollout


async def _find_release(session: AsyncSession, alias: Alias, id_or_name: str) -> ReleaseRow:
    release = await find_release(session, id_or_name)
    if release is None or release.alias != alias.name:
        raise NotFound(
            f"The alias `{alias.name}` has no release `{id_or_name}`. `alignway releases list` shows those it has.",
            param="release",
            code="release_not_found",
        )
    return release


def _check_current(alias: Alias, expected: str | None) -> None:
    if expected is not None and expected != alias.serving_release_id:
        raise Conflict(
            f"`{alias.name}` serves {alias.serving_release_id} by now, not {expected}. Look again, then decide.",
            param="expected_current",
            code="stale_expected_current",
        )


def _check_release(alias: Alias, release: ReleaseRow, reason: str) -> None:
    if release.id == alias.serving_release_id:
        raise Conflict(f"`{alias.name}` serves {release.name} already.", code="already_serving")
    if release.state not in ("published", "retired"):
        gates = Release.model_validate(release.manifest).blocked_by if release.kind == "aligned" else ()
        why = "; ".join(f"{gate.gate}: {gate.reason}" for gate in gates) or f"its state is {release.state}"
        raise Conflict(f"{release.name} may not serve: {why}.", param="release", code="release_not_published")
    warned = release.kind == "aligned" and any(
        gate.verdict == "warn" for gate in Release.model_validate(release.manifest).gates
    )
    if warned and not reason.strip():
        raise InvalidRequest(
            f"{release.name} passed its gates with warnings: say in `reason` why it should serve all the same. "
            f"`alignway releases show {release.name}` lists them.",
            param="reason",
            code="reason_required",
        )


async def _check_replicas(session: AsyncSession, alias: Alias) -> None:
    managed = await session.scalar(select(Replica.id).where(Replica.alias == alias.name, Replica.managed.is_(True)))
    if managed is None:
        raise Conflict(
            f"No replica of `{alias.name}` has an agent, so nothing can be loaded into it. Run `alignway engine` on "
            "the engine's host, or start an engine on the release's merged folder and switch the alias by URL.",
            code="replica_not_managed",
        )


def _hasten(current: Rollout, release: ReleaseRow, asked: Promotion) -> Rollout:
    """A canary that is promoted by hand goes on to all traffic; anything else has to wait its turn."""
    if current.candidate_id == release.id and current.state == "canary" and asked.strategy == "immediate":
        current.strategy = "immediate"
        return current
    raise Conflict(
        f"Rollout {current.id} of {current.candidate_id} is under way ({current.state}). "
        f"Wait for it, or end it with `alignway releases rollback --alias {current.alias}`.",
        code="rollout_in_progress",
    )


async def _check_canary(session: AsyncSession, alias: Alias, release: ReleaseRow, now: float) -> None:
    snapshot = await snapshot_of(session, alias.name, now)
    if not any(fits_as_adapter(release_facts(release), replica) for replica in snapshot.replicas):
        raise Conflict(
            f"No replica of `{alias.name}` can hold {release.name} beside what it serves: an adapter needs the base's "
            "weights under it, and room for its rank. Promote with strategy `immediate`.",
            param="strategy",
            code="canary_not_possible",
        )


async def _rollback_target(session: AsyncSession, alias: Alias, named: str | None) -> ReleaseRow:
    if named is not None:
        release = await _find_release(session, alias, named)
        _check_release(alias, release, reason="rollback")
        return release
    promotion = await promotion_of(session, alias.name, alias.serving_release_id)
    if promotion is None:
        raise Conflict(
            f"`{alias.name}` serves what it began with; there is nothing to go back to.", code="nothing_to_roll_back"
        )
    return await session.get_one(ReleaseRow, promotion.incumbent_id)
