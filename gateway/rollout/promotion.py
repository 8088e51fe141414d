"""What an operator may ask of an alias: promote a release, roll back. Each is only a change of desired state.

The checks are here; the work is the reconciler's.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.release import GateResult
from gateway.errors import Conflict, InvalidRequest, NotFound, WrongTask
from gateway.rollout.facts import fits_as_adapter, may_come_to_hold
from gateway.rollout.snapshot import release_facts, snapshot_of
from gateway.storage import routing_state
from gateway.storage.audit import write_audit
from gateway.storage.releases import find_release
from gateway.storage.rollouts import create_rollout, open_rollout, promotion_of, transition
from gateway.storage.tables import Alias, ReleaseRow, Rollout

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
    held_elsewhere: bool = False
    """Servers that hold the release already join the pool with it (`by_address.py`)."""


async def find_alias(session: AsyncSession, name: str, *, locked: bool = False) -> Alias:
    """The alias, or `NotFound` that names those there are. `locked`: nobody else changes it in this transaction."""
    alias = await (routing_state.lock_alias(session, name) if locked else session.get(Alias, name))
    if alias is None:
        known = ", ".join(await session.scalars(select(Alias.name).order_by(Alias.name))) or "none"
        raise NotFound(f"There is no alias `{name}`; there are: {known}.", param="alias", code="alias_not_found")
    return alias


async def find_trainable(session: AsyncSession, name: str, *, locked: bool = False) -> Alias:
    """As `find_alias`; `WrongTask` for a model that is only passed on, and so has no releases."""
    alias = await find_alias(session, name, locked=locked)
    if alias.task != "chat":
        raise WrongTask(name, alias.task)
    return alias


async def promote(session: AsyncSession, asked: Promotion, now: float) -> Rollout:
    """Open a rollout. Raises `NotFound`, `Conflict` or `InvalidRequest`, each saying what to do."""
    alias = await find_trainable(session, asked.alias, locked=True)
    rollout = await _open_promotion(session, alias, asked, now)
    before = {"serving": alias.serving_release_id}
    await _note(session, "alias.promoted", asked.actor, rollout, before, {"strategy": asked.strategy})
    return rollout


async def _open_promotion(session: AsyncSession, alias: Alias, asked: Promotion, now: float) -> Rollout:
    release = await find_release_of(session, alias, asked.release)
    _check_current(alias, asked.expected_current)
    _check_release(alias, release, asked.reason)
    if not asked.held_elsewhere:
        await _check_replicas(session, alias, release, now)
    current = await open_rollout(session, alias.name)
    if current is not None:
        return _hasten(current, release, asked)
    if asked.strategy == "canary" and not asked.held_elsewhere:
        await _check_canary(session, alias, release, now)
    await routing_state.try_swaps_at_once(session, alias.name)
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


async def roll_back(
    session: AsyncSession,
    alias_name: str,
    release: str | None,
    actor: str,
    reason: str,
    evidence: dict[str, Any] | None = None,
) -> Rollout:
    """Give the alias back to what it served before, or to the release named. Ends a promotion that is under way.

    Asked again while a rollback is under way, it returns that one. `evidence` is kept with a rollout that is opened.
    """
    alias = await find_trainable(session, alias_name, locked=True)
    rollout = await _open_rollback(session, alias, release, actor, reason, evidence)
    await _note(session, "alias.rolled_back", actor, rollout, {"serving": alias.serving_release_id}, {})
    return rollout


async def _note(
    session: AsyncSession, action: str, actor: str, rollout: Rollout, before: Mapping[str, Any], more: Mapping[str, Any]
) -> None:
    """Write into the audit what was asked; how it went on is told by the rollout."""
    to = rollout.incumbent_id if (rollout.kind, action) == ("promote", "alias.rolled_back") else rollout.candidate_id
    after = {"serving": to, "rollout": rollout.id, **more}
    await write_audit(session, actor=actor, action=action, subject=rollout.alias, before=before, after=after)


async def _open_rollback(
    session: AsyncSession,
    alias: Alias,
    release: str | None,
    actor: str,
    reason: str,
    evidence: dict[str, Any] | None,
) -> Rollout:
    target = None if release is None else await find_release_of(session, alias, release)
    current = await open_rollout(session, alias.name)
    if current is not None:
        return await _end_promotion(session, current, target, actor, reason)
    target = await _rollback_target(session, alias, target)
    await _check_replicas(session, alias, target, time.time())
    await routing_state.try_swaps_at_once(session, alias.name)
    rollout = await create_rollout(
        session,
        alias=alias.name,
        kind="rollback",
        candidate_id=target.id,
        incumbent_id=alias.serving_release_id,
        strategy="immediate",
        canary_share=0.0,
        actor=actor,
        reason=reason,
        evidence=evidence,
    )
    for state in ("canary", "promoting"):
        await transition(session, rollout, state, actor, reason or "rollback")
    return rollout


async def _end_promotion(
    session: AsyncSession, current: Rollout, target: ReleaseRow | None, actor: str, reason: str
) -> Rollout:
    if current.kind == "rollback" and (target is None or target.id == current.candidate_id):
        return current
    if current.kind == "promote" and target is None:
        await routing_state.try_swaps_at_once(session, current.alias)
        await routing_state.reject_candidate(session, current.alias, current.candidate_id, actor, reason)
        return current
    raise Conflict(
        f"Rollout {current.id} to {current.candidate_id} is under way ({current.state}). "
        + ("Wait for it." if current.kind == "rollback" else "Roll back without naming a release to end it first."),
        code="rollout_in_progress",
    )


async def find_release_of(session: AsyncSession, alias: Alias, id_or_name: str) -> ReleaseRow:
    """The release of an alias with this id or name, or `NotFound`."""
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
    if release.blocked_by is not None:
        raise Conflict(
            f"{release.name} was trained on what {release.blocked_by} erased, and that erasure forbids to serve it. "
            "Train again without it: POST /admin/v1/retrain.",
            param="release",
            code="release_blocked",
        )
    if release.pruned_at is not None:
        raise Conflict(
            f"The weights of {release.name} were removed to save room (`releases.keep`); its card is all that is left. "
            "Choose another release, or train again.",
            param="release",
            code="release_pruned",
        )
    gates = [GateResult.model_validate(gate) for gate in release.manifest.get("gates", ())]
    if release.state not in ("published", "retired"):
        blocking = [gate for gate in gates if gate.verdict == "block"]
        why = "; ".join(f"{gate.gate}: {gate.reason}" for gate in blocking) or f"its state is {release.state}"
        raise Conflict(f"{release.name} may not serve: {why}.", param="release", code="release_not_published")
    warned = any(gate.verdict == "warn" for gate in gates)
    if warned and not reason.strip():
        raise InvalidRequest(
            f"{release.name} passed its gates with warnings: say in `reason` why it should serve all the same. "
            f"`alignway releases gates {release.name}` lists them.",
            param="reason",
            code="reason_required",
        )


async def _check_replicas(session: AsyncSession, alias: Alias, release: ReleaseRow, now: float) -> None:
    snapshot = await snapshot_of(session, alias.name, now)
    managed, holders = snapshot.managed, snapshot.holders(release.id)
    if any(replica.ready and not replica.managed for replica in holders):
        return
    if not managed:
        gone = "".join(f" {replica.id} holds it, but does not answer: {replica.detail}." for replica in holders)
        raise Conflict(
            f"No replica of `{alias.name}` has an agent, so nothing can be loaded into it.{gone} Start a server on the "
            f"merged folder of {release.name} and say where: `alignway releases promote {release.name} --url URL`; or "
            "run `alignway engine` on the engine's host.",
            code="replica_not_managed",
        )
    if not any(may_come_to_hold(release_facts(release), replica, alias.swap) for replica in managed):
        largest = max(replica.max_adapter_rank for replica in managed)
        can = f"its engines hold adapters up to rank {largest}" if largest else "its engines load no adapters"
        raise Conflict(
            f'`{alias.name}` holds releases as adapters (`swap = "adapter"`), but {can}, and {release.name} is of '
            f'rank {release.adapter_rank}. Set `swap = "merged"` for the model, or, if its engine takes adapters, '
            f"`engine.max_adapter_rank = {release.adapter_rank}` or more; then start again.",
            code="swap_not_possible",
        )


def _hasten(current: Rollout, release: ReleaseRow, asked: Promotion) -> Rollout:
    """A canary that is promoted by hand goes on to all traffic; anything else has to wait its turn."""
    if current.candidate_id == release.id and current.state == "canary" and asked.strategy == "immediate":
        current.strategy = "immediate"
        return current
    end = f", or end it with `alignway releases rollback --alias {current.alias}`" if current.kind == "promote" else ""
    raise Conflict(
        f"Rollout {current.id} of {current.candidate_id} is under way ({current.state}). Wait for it{end}.",
        code="rollout_in_progress",
    )


async def _check_canary(session: AsyncSession, alias: Alias, release: ReleaseRow, now: float) -> None:
    snapshot = await snapshot_of(session, alias.name, now)
    facts = release_facts(release)
    if not any(replica.weights_id == release.id or fits_as_adapter(facts, replica) for replica in snapshot.replicas):
        raise Conflict(
            f"No replica of `{alias.name}` can hold {release.name} beside what it serves: {_why_no_adapter(release)} "
            "Promote with strategy `immediate`, or give the address of a server that holds it (`--url`).",
            param="strategy",
            code="canary_not_possible",
        )


def _why_no_adapter(release: ReleaseRow) -> str:
    difference = release.manifest.get("difference")
    if difference is None:
        return "its adapter needs the base's weights under it, and it has no difference adapter to merged ones."
    over, rank = difference["incumbent_id"], difference["rank"]
    return f"its difference adapter needs the weights of {over} and room for rank {rank} (`engine.max_adapter_rank`)."


async def _rollback_target(session: AsyncSession, alias: Alias, named: ReleaseRow | None) -> ReleaseRow:
    if named is not None:
        _check_release(alias, named, reason="rollback")
        return named
    promotion = await promotion_of(session, alias.name, alias.serving_release_id)
    if promotion is None:
        raise Conflict(
            f"No promotion made `{alias.name}` serve {alias.serving_release_id}: there is nothing to go back to. "
            "Name a release to serve another.",
            code="nothing_to_roll_back",
        )
    return await session.get_one(ReleaseRow, promotion.incumbent_id)
