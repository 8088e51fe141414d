"""The reconciler at work on rows: what goes wrong with one alias, one lease, one worker stays there."""

import time
from typing import Any

import pytest

from gateway.rollout import reconciler as module
from gateway.rollout.triggers import Verdict, start_due_runs
from gateway.settings import AlignerSettings, Settings
from gateway.storage import routing_state
from gateway.storage.leases import LeaseLost, check_lease, take_lease
from gateway.storage.runs import list_runs
from gateway.storage.tables import Alias, FenceAck, GatewayWorker, Replica
from tests.gateway.rollout.served import ALIAS, REPLICA, Served


async def test_an_alias_whose_records_are_broken_keeps_nobody_else_waiting(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    async def note_triggers(*_: Any) -> None:
        looked.append("triggers")

    monkeypatch.setattr(module, "start_due_runs", note_triggers)
    await served.prepare("broken")
    await served.prepare("zebra")
    async with served.database.write() as session:
        (await session.get_one(Alias, "broken")).serving_release_id = "rel_missing"
    for name in (ALIAS, "zebra"):  # before and after the broken one
        await served.replica(f"{name}-1", name, desired_adapters=["rel_gone"])
    await served.reconciler.step()
    assert (await served.row(REPLICA)).desired_adapters == []
    assert (await served.row("zebra-1")).desired_adapters == []
    assert looked == ["triggers"]


async def test_a_reconciler_that_was_deposed_changes_nothing_that_is_desired(served: Served) -> None:
    leader, successor = served.reconciler, module.Reconciler(served.database, Settings(), holder="gw_2")
    await leader.step()
    async with served.database.write() as session:  # it stood still for longer than its lease, and does not know
        assert await take_lease(session, module.LEASE, "gw_2", 60.0, time.time() + module.LEASE_SECONDS + 1)
    rollout = await served.promote("rel_a")
    with pytest.raises(LeaseLost):
        await leader.step()
    assert await served.state(rollout) == "waiting"
    await successor.step()
    assert await served.state(rollout) != "waiting"


async def test_a_reconciler_that_was_deposed_starts_no_run(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def is_due(*_: Any) -> Verdict:
        return Verdict("schedule")

    monkeypatch.setattr("gateway.rollout.triggers._verdict", is_due)
    settings = Settings(aligner=AlignerSettings(every="1h"))
    async with served.database.write() as session:
        epoch = await take_lease(session, "reconciler", "gw_1", 0.0, time.time() - 10)
        await take_lease(session, "reconciler", "gw_2", 60.0, time.time())

    async def fence(session: Any) -> None:
        await check_lease(session, "reconciler", "gw_1", epoch or 0)

    with pytest.raises(LeaseLost):
        await start_due_runs(served.database, settings, time.time(), fence, lambda *_: True)
    async with served.database.read() as session:
        assert await list_runs(session) == []


async def test_the_pause_doubles_while_streams_do_not_end_and_is_short_again_after_a_success(served: Served) -> None:
    pauses = []
    for _ in range(3):
        async with served.database.write() as session:
            row = await session.get_one(Replica, REPLICA)
            await routing_state.begin_swap(session, row, "rel_a", time.time() - 1)
        await served.reconciler.step()
        row = await served.row()
        assert (row.swap_state, row.desired_weights_id) == (None, "rel_base")
        pauses.append(round((row.swap_not_before or 0) - time.time()))
    assert pauses == [20, 40, 80]
    async with served.database.write() as session:
        row = await session.get_one(Replica, REPLICA)
        epoch = await routing_state.begin_swap(session, row, "rel_a", time.time() + 30)
        assert await routing_state.begin_loading(session, REPLICA, epoch)
        assert await routing_state.complete_swap(session, REPLICA, epoch, "rel_a")
    assert (await served.row()).swap_put_offs == 0


async def test_workers_that_ended_long_ago_are_forgotten_with_their_word(served: Served) -> None:
    now = time.time()
    async with served.database.write() as session:
        for name, seen_at in (("gw_old", now - 3700), ("gw_silent", now - 3000)):
            session.add(GatewayWorker(id=name, host="h", pid=1, epoch=1, started_at=0.0, seen_at=seen_at))
            session.add(FenceAck(worker_id=name, replica_id=REPLICA, epoch=1))
    await served.reconciler.step()
    async with served.database.read() as session:
        assert await session.get(GatewayWorker, "gw_old") is None
        assert await session.get(FenceAck, ("gw_old", REPLICA)) is None
        assert await session.get(GatewayWorker, "gw_silent") is not None
        assert await session.get(FenceAck, ("gw_silent", REPLICA)) is not None


async def test_a_reconciler_at_rest_plans_again_only_once_something_changed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[str] = []
    snapshot_of = module.snapshot_of

    async def noted(session: Any, alias: str, now: float) -> Any:
        planned.append(alias)
        return await snapshot_of(session, alias, now)

    monkeypatch.setattr(module, "snapshot_of", noted)
    monkeypatch.setattr(module, "GLANCE_SECONDS", 0.0)
    reconciler = module.Reconciler(served.database, Settings(), holder="gw_1", epoch=lambda: 7)
    await reconciler.step()
    assert planned == [ALIAS]
    for _ in range(5):
        await reconciler.step()
    assert planned == [ALIAS]  # nothing changed: a glance is all
    await served.replica(f"{ALIAS}-2", desired_adapters=["rel_gone"])
    await reconciler.step()
    assert (await served.row(f"{ALIAS}-2")).desired_adapters == []
    await reconciler.step()  # once more: what it changed itself is a change
    planned.clear()
    await served.promote("rel_a")
    await reconciler.step()
    assert ALIAS in planned
    monkeypatch.setattr(module, "REST_SECONDS", 0.0)
    planned.clear()
    await reconciler.step()
    assert planned[0] == ALIAS  # what was put off may be due
