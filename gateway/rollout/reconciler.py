"""Carries out the plan: one gateway worker at a time, by lease, each write fenced by the lease's epoch.

It only ever changes what is desired. Agents do the work; a crash anywhere is healed by looking again.
"""

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.rollout import RolloutState, swap_pause_seconds
from gateway.errors import DatabaseUnavailable
from gateway.rollout import plan as planning
from gateway.rollout.lending import take_back_abandoned
from gateway.rollout.promotion import roll_back
from gateway.rollout.snapshot import snapshot_of
from gateway.rollout.triggers import start_due_runs
from gateway.rollout.unattended_canary import begin_canaries
from gateway.rollout.usable import UsableCounts
from gateway.rollout.watch import candidates, give_back, look_at
from gateway.settings import Settings
from gateway.storage import routing_state
from gateway.storage.database import Database
from gateway.storage.glance import Rows
from gateway.storage.leases import LeaseLost, check_lease, release_lease, take_lease
from gateway.storage.replicas import forget_replica
from gateway.storage.rollouts import begin_step, open_rollout, raise_share, transition
from gateway.storage.tables import Alias, Replica, Rollout

LEASE = "reconciler"
LEASE_SECONDS = 3.0
POLL_SECONDS = 0.1
GLANCE_SECONDS = 0.5
"""While nothing is desired that is not so, and no epoch began, it finds out this often whether anything changed."""
REST_SECONDS = 2.0
"""If nothing has, it looks only this often: what was put off may be due."""
TRIGGER_SECONDS = 1.0
TRIGGER_SHARE = 0.05
"""Of the time, no more goes to counting the pairs of triggers: of a million, that takes a second."""
SWEEP_SECONDS = 60.0
DEAD_WORKER_SECONDS = 3600.0
"""Rows of workers that ended without signing off are kept this long; clocks of hosts differ by less."""
ACTOR = "reconciler"
LOOKS = {
    "aliases": select(Alias).order_by(Alias.name),
    "rollouts": select(func.count(), func.max(Rollout.updated_at)),
    "replicas": select(*[column for column in Replica.__table__.c if column.name != "seen_at"]).order_by(Replica.id),
}
"""All that a plan is made of, but for releases, which never change."""

log = structlog.get_logger(__name__)


class Reconciler:
    """Compares what should be served with what is, and repairs."""

    def __init__(
        self, database: Database, settings: Settings, holder: str, epoch: Callable[[], int] | None = None
    ) -> None:
        """`epoch`: the routing epoch last seen, for free; without it, every look is a whole one."""
        self._database = database
        self._glance = database.glance(LOOKS)
        self._epoch_seen = epoch
        self._looked_at, self._looked_epoch, self._at_rest = float("-inf"), -1, False
        self._glanced_at = float("-inf")
        self._glanced: list[Rows] = []
        self._settings = settings
        self._holder = holder
        self._renew_at = float("-inf")
        self._epoch: int | None = None
        self._to_look_at: list[str] = []
        self._usable = UsableCounts(database, settings)
        self._triggers_at = self._sweep_at = self._watch_at = float("-inf")

    async def run(self) -> None:
        """Reconcile until cancelled."""
        try:
            while True:
                await self._step_safely()
                await asyncio.sleep(POLL_SECONDS)
        finally:
            await self._usable.close()
            await self._give_lease_back()

    async def step(self) -> None:
        """One look at every alias, if the lease is ours."""
        now = time.monotonic()
        if now >= self._renew_at:
            await self._renew()
            # A holder renews well within its lease; the others ask more often, to step in soon.
            self._renew_at = now + LEASE_SECONDS / 3
        if self._epoch is None:
            return
        await self._look_safely(now)
        if await self._may_rest(now):
            return
        async with self._database.read() as session:
            names = (await session.scalars(select(Alias.name))).all()
        self._at_rest = True
        for name in names:
            await self._reconcile_safely(name)
        if now >= self._triggers_at:
            try:
                await self._pull_triggers()
            finally:
                self._triggers_at = now + max(TRIGGER_SECONDS, (time.monotonic() - now) / TRIGGER_SHARE)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            await self._sweep()

    async def _pull_triggers(self) -> None:
        enough = self._usable.is_enough
        await start_due_runs(self._database, self._settings, time.time(), self._check_lease, enough)
        await take_back_abandoned(self._database, time.time(), self._check_lease)
        await begin_canaries(self._database, self._settings.canary, time.time(), self._check_lease)

    async def _look_safely(self, now: float) -> None:
        """Look at one candidate whose turn it is: no step waits for more."""
        rules = self._settings.canary
        if not self._to_look_at and now >= self._watch_at:
            self._watch_at = now + rules.look_seconds
            self._to_look_at = await candidates(self._database, rules, time.time())
        if not self._to_look_at:
            return
        rollout_id = self._to_look_at.pop()
        try:
            await look_at(self._database, rollout_id, rules, time.time(), self._check_lease)
        except (DatabaseUnavailable, LeaseLost):
            raise
        except Exception:
            log.exception("candidate_not_looked_at", rollout=rollout_id)

    async def _may_rest(self, now: float) -> bool:
        """Whether nothing has changed since the last look."""
        epoch = -1 if self._epoch_seen is None else self._epoch_seen()
        settled = self._at_rest and epoch == self._looked_epoch and epoch >= 0
        if settled and now - self._glanced_at < GLANCE_SECONDS:
            return True
        glanced = [await self._glance.rows(look) for look in LOOKS]
        self._glanced_at = now
        if settled and glanced == self._glanced and now - self._looked_at < REST_SECONDS:
            return True
        self._looked_at, self._looked_epoch, self._glanced = now, epoch, glanced
        return False

    async def _step_safely(self) -> None:
        try:
            await self.step()
        except (DatabaseUnavailable, LeaseLost) as error:
            self._epoch, self._renew_at = None, float("-inf")
            log.warning("reconciler_interrupted", error=error.message)
        except Exception:
            # The reconciler is what heals: it must outlive any single bad record.
            log.exception("reconciler_failed")

    async def _renew(self) -> None:
        async with self._database.write("relaxed") as session:
            self._epoch = await take_lease(session, LEASE, self._holder, LEASE_SECONDS, time.time())

    async def _give_lease_back(self) -> None:
        await self._glance.close()
        try:
            async with self._database.write("relaxed") as session:
                await release_lease(session, LEASE, self._holder)
        except DatabaseUnavailable:
            return  # it expires by itself

    async def _check_lease(self, session: AsyncSession) -> None:
        await check_lease(session, LEASE, self._holder, self._epoch or 0)

    async def _sweep(self) -> None:
        async with self._database.write("relaxed") as session:
            await self._check_lease(session)
            await routing_state.forget_dead_workers(session, time.time() - DEAD_WORKER_SECONDS)

    async def _reconcile_safely(self, alias: str) -> None:
        try:
            await self._reconcile(alias)
        except (DatabaseUnavailable, LeaseLost):
            raise
        except Exception:
            # One bad record must not keep the other aliases waiting.
            log.exception("alias_not_reconciled", alias=alias)

    async def _reconcile(self, alias: str) -> None:
        async with self._database.read() as session:
            snapshot = await snapshot_of(session, alias, time.time())
            if snapshot.rollout is not None:
                self._at_rest = False  # something is under way: look again at once
            if not planning.plan(snapshot, self._settings.canary):
                return
        self._at_rest = False
        async with self._database.write() as session:
            await routing_state.lock_pool(session, alias)
            await self._check_lease(session)
            snapshot = await snapshot_of(session, alias, time.time())
            for action in planning.plan(snapshot, self._settings.canary):
                log.info("reconciler_action", alias=alias, action=action)
                await self._apply(session, alias, action)

    async def _apply(self, session: AsyncSession, alias: str, action: planning.Action) -> None:
        match action:
            case planning.Advance(to, reason, actor):
                await self._advance(session, alias, to, reason, actor)
            case planning.Serve(release_id):
                await routing_state.set_serving(session, alias, release_id)
            case planning.GoBack(reason):
                await roll_back(session, alias, None, ACTOR, reason)
            case planning.Forget(replica_id):
                await forget_replica(session, replica_id)
            case planning.StartCanary() | planning.RaiseShare() | planning.EndCanary():
                await self._apply_to_canary(session, alias, action)
            case _:
                await self._apply_to_replica(session, action)

    async def _apply_to_canary(
        self, session: AsyncSession, alias: str, action: planning.StartCanary | planning.RaiseShare | planning.EndCanary
    ) -> None:
        rollout = await open_rollout(session, alias)
        if rollout is None:
            return
        match action:
            case planning.EndCanary(reason, rejected):
                await give_back(session, rollout, reason, rejected=rejected)
                return
            case planning.RaiseShare(share, reason):
                await raise_share(session, rollout, share, planning.CANARY, reason)
        await begin_step(session, rollout, time.time())
        await routing_state.set_canary(session, alias, rollout.candidate_id, rollout.canary_share)

    async def _advance(self, session: AsyncSession, alias: str, to: RolloutState, reason: str, actor: str) -> None:
        rollout = await open_rollout(session, alias)
        if rollout is None:
            return
        if to == "rolled_back":
            await routing_state.reject_candidate(session, alias, rollout.candidate_id, ACTOR, reason)
        else:
            await transition(session, rollout, to, actor, reason)
            if rollout.kind == "promote" and to in ("promoting", "promoted"):
                await begin_step(session, rollout, time.time())

    async def _apply_to_replica(
        self,
        session: AsyncSession,
        action: planning.HoldAdapters
        | planning.StartOn
        | planning.BeginSwap
        | planning.BeginBeside
        | planning.CallOffSwap
        | planning.CallOffBeside,
    ) -> None:
        replica = await session.get_one(Replica, action.replica_id)
        now = time.time()
        match action:
            case planning.HoldAdapters(_, release_ids):
                replica.desired_adapters = sorted(release_ids)
                replica.epoch = await routing_state.bump_epoch(session)
            case planning.StartOn(_, release_id):
                replica.desired_weights_id, replica.desired_adapters = release_id, []
                replica.epoch = await routing_state.bump_epoch(session)
            case planning.BeginSwap(_, release_id):
                deadline = now + self._settings.swap.max_stall_seconds
                await routing_state.begin_swap(session, replica, release_id, deadline)
            case planning.BeginBeside(_, release_id):
                await routing_state.begin_beside(session, replica, release_id)
            case planning.CallOffBeside():
                detail = f"no second engine: {replica.desired_weights_id} is not wanted any more"
                await routing_state.call_off_swap(session, replica.id, replica.epoch, detail)
            case planning.CallOffSwap():
                detail = "exchange of weights put off: open streams did not end in time (swap.max_stall_seconds)"
                again = now + swap_pause_seconds(self._settings.swap.retry_seconds, replica.swap_put_offs)
                await routing_state.call_off_swap(session, replica.id, replica.epoch, detail, again)
