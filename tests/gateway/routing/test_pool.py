"""Newcomers wait unresolved and bounded; what is in flight is counted to the last byte."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from gateway.engines.failures import ReleaseNotHeld, UpstreamBrokeOff, UpstreamOverloaded, UpstreamUnreachable
from gateway.errors import (
    AlignwayError,
    DatabaseUnavailable,
    InvalidRequest,
    ModelNotFound,
    NoReplicaReady,
    Overloaded,
    UpstreamError,
    UpstreamRefused,
)
from gateway.routing.drain import ServerShuttingDown
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView, Target
from gateway.routing.pool import CircuitOpen, Pool, ReleaseNotLoaded
from gateway.routing.table import RoutingTable
from gateway.settings import PoolSettings, SwapSettings
from tests.patience import patient


def table(serving: str = "rel_old", weights: str = "rel_old", *, fenced: bool = False, epoch: int = 1) -> RoutingTable:
    releases = {name: ReleaseView(name, f"name-{name}", "assistant") for name in ("rel_old", "rel_new")}
    replica = ReplicaView("r1", "assistant", "http://r1", True, fenced, epoch, weights, frozenset())
    return RoutingTable(epoch, {"assistant": AliasView("assistant", serving)}, releases, (replica,))


def pool(**settings: float) -> Pool:
    return Pool(SwapSettings.model_validate(settings))


async def test_in_flight_lasts_as_long_as_the_request() -> None:
    ours = pool()
    ours.apply(table())
    lease = await ours.take("assistant", b"")
    assert lease.target.release.id == "rel_old"
    assert ours.in_flight["r1"] == 1
    lease.release()
    assert ours.in_flight["r1"] == 0


async def test_newcomers_during_a_fence_are_answered_by_whatever_serves_after_it() -> None:
    ours = pool()
    ours.apply(table(fenced=True))
    waiter = asyncio.create_task(_release_of(ours))
    await asyncio.sleep(0.01)
    assert ours.waiting == 1
    ours.apply(table(serving="rel_new", weights="rel_new", epoch=2))
    assert await waiter == "rel_new"
    assert ours.waiting == 0


async def test_one_more_than_the_queue_holds_is_refused_at_once() -> None:
    ours = pool(max_waiting_requests=2)
    ours.apply(table(fenced=True))
    waiters = [asyncio.create_task(_release_of(ours)) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded) as refused:
        await _release_of(ours)
    assert refused.value.status == 429
    assert refused.value.retry_after_seconds is not None
    ours.apply(table())
    assert await asyncio.gather(*waiters) == ["rel_old", "rel_old"]


async def test_a_newcomer_for_whom_nothing_becomes_ready_hears_so() -> None:
    ours = pool(max_wait_seconds=0.05)
    ours.apply(table(fenced=True))
    with pytest.raises(NoReplicaReady) as refused:
        await _release_of(ours)
    assert refused.value.status == 503
    assert ours.waiting == 0


async def test_an_unknown_model_is_refused_naming_those_there_are() -> None:
    ours = pool()
    ours.apply(table())
    with pytest.raises(ModelNotFound, match="assistant"):
        await ours.take("gpt-4", b"")


async def test_a_release_can_be_asked_for_by_name_and_by_id() -> None:
    ours = pool()
    ours.apply(table())
    for name in ("name-rel_old", "rel_old"):
        assert await _release_of(ours, name) == "rel_old"


async def test_a_replica_that_refused_a_connection_is_left_alone_for_a_moment() -> None:
    ours = pool(max_wait_seconds=0.1)
    ours.apply(table())
    ours.report(target_of(ours), UpstreamUnreachable("refused"))
    with pytest.raises(NoReplicaReady):
        await _release_of(ours)


async def test_while_the_candidates_engine_is_gone_the_incumbent_answers_for_it() -> None:
    ours = pool(max_wait_seconds=0.05)
    before = table()
    candidate = replace(before.replicas[0], id="r2", url="http://r2", weights_release_id="rel_new", managed=False)
    trial = replace(before.aliases["assistant"], canary_release_id="rel_new", canary_share=1.0)
    ours.apply(replace(before, aliases={"assistant": trial}, replicas=(*before.replicas, candidate)))
    lease = await ours.take("assistant", b"")
    assert lease.target.release.id == "rel_new"
    ours.report(lease.target, UpstreamUnreachable("refused"))
    assert (await ours.take("assistant", b"")).target.release.id == "rel_old"
    with pytest.raises(NoReplicaReady):  # who asks for the candidate by name gets nothing else
        await ours.take("rel_new", b"")


async def test_a_release_that_one_replica_lost_is_looked_for_elsewhere_and_the_replica_serves_on() -> None:
    ours = pool(max_wait_seconds=0.1)
    ours.apply(table())
    old = target_of(ours)
    ours.report(replace(old, release=ReleaseView("rel_new", "name-rel_new", "assistant")), ReleaseNotHeld("not here"))
    assert await _release_of(ours) == "rel_old"
    ours.report(old, ReleaseNotHeld("not here"))
    with pytest.raises(NoReplicaReady):
        await _release_of(ours)


async def test_a_release_by_name_that_nobody_will_hold_is_refused_at_once_saying_what_to_do() -> None:
    ours = pool(max_waiting_requests=1)
    ours.apply(table())
    for _ in range(3):
        with pytest.raises(ReleaseNotLoaded, match=r"alignway releases promote.*`assistant`") as refused:
            await asyncio.wait_for(ours.take("name-rel_new", b""), 1)
    assert refused.value.status == 409


async def test_a_release_by_name_that_a_replica_is_about_to_hold_is_waited_for() -> None:
    ours = pool()
    releases = {name: ReleaseView(name, f"name-{name}", "assistant") for name in ("rel_old", "rel_new")}
    coming = ReplicaView("r1", "assistant", "http://r1", True, True, 1, "rel_old", frozenset(), frozenset({"rel_new"}))
    ours.apply(RoutingTable(1, {"assistant": AliasView("assistant", "rel_old")}, releases, (coming,)))
    waiter = asyncio.create_task(_release_of(ours, "name-rel_new"))
    await asyncio.sleep(0.01)
    assert ours.waiting == 1
    ours.apply(table(serving="rel_new", weights="rel_new", epoch=2))
    assert await waiter == "rel_new"


async def test_a_dispatch_with_a_stale_table_waits_for_the_next_look_and_goes_by_it() -> None:
    ours = pool()
    ours.apply(table())
    ours.freshness.confirm(time.monotonic() - 60)
    asking = asyncio.create_task(_release_of(ours))
    await asyncio.sleep(0.01)
    assert not asking.done()
    ours.apply(table(serving="rel_new", weights="rel_new", epoch=2))
    ours.freshness.confirm(time.monotonic())
    ours.freshness.attempted(time.monotonic())
    assert await asking == "rel_new"


async def _release_of(ours: Pool, model: str = "assistant") -> str:
    lease = await ours.take(model, b"")
    lease.release()
    return lease.target.release.id


def target_of(ours: Pool) -> Target:
    lease = ours.try_take("assistant", b"")
    assert lease is not None
    lease.release()
    return lease.target


def pool_of(*replicas: ReplicaView, **settings: float) -> Pool:
    ours = pool(**settings)
    release = ReleaseView("rel_old", "name-rel_old", "assistant")
    ours.apply(RoutingTable(1, {"assistant": AliasView("assistant", "rel_old")}, {"rel_old": release}, replicas))
    return ours


def view(name: str = "r1", **changes: Any) -> ReplicaView:
    return replace(ReplicaView(name, "assistant", f"http://{name}", True, False, 1, "rel_old", frozenset()), **changes)


FOREIGN = view(managed=False)
FAILURE = UpstreamError("The engine answered 500: out of memory")


def fail(ours: Pool, times: int = 5, error: AlignwayError = FAILURE) -> None:
    target = target_of(ours)
    for _ in range(times):
        ours.report(target, error)


def test_a_lease_counts_until_it_is_released_and_releasing_it_again_does_nothing() -> None:
    ours = pool_of(FOREIGN)
    first, second = ours.try_take("assistant", b""), ours.try_take("assistant", b"")
    assert first is not None
    assert second is not None
    assert ours.in_flight["r1"] == 2
    first.release()
    first.release()
    assert ours.in_flight["r1"] == 1


def test_nothing_is_taken_at_once_by_a_stale_table_nor_of_a_fenced_replica() -> None:
    ours = pool_of(view(fenced=True))
    assert ours.try_take("assistant", b"") is None
    ours = pool_of(view())
    ours.freshness.confirm(time.monotonic() - 60)
    assert ours.try_take("assistant", b"") is None
    assert not ours.in_flight.total()


def test_a_conversation_sticks_and_what_has_no_affinity_is_spread() -> None:
    ours = pool_of(*(view(f"r{number}") for number in range(8)))
    sticky = {lease.target.replica_id for _ in range(5) if (lease := ours.try_take("assistant", b"", b"a prompt"))}
    assert len(sticky) == 1
    ours.in_flight.clear()
    spread = [lease.target.replica_id for _ in range(8) if (lease := ours.try_take("assistant", b""))]
    assert len(set(spread)) == 8


def test_five_failures_cut_an_engine_off_and_a_request_hears_so_at_once() -> None:
    ours = pool_of(FOREIGN)
    fail(ours)
    with pytest.raises(CircuitOpen) as refused:
        ours.try_take("assistant", b"")
    assert (refused.value.status, refused.value.code) == (503, "circuit_open")
    assert 1 <= (refused.value.retry_after_seconds or 0) <= 5


async def test_who_waits_when_the_last_circuit_opens_hears_so_too() -> None:
    ours = pool_of(FOREIGN)
    target = target_of(ours)
    ours.report(target, UpstreamUnreachable("refused"))
    waiter = asyncio.create_task(ours.take("assistant", b""))
    await asyncio.sleep(0.01)
    assert ours.waiting == 1
    for _ in range(4):
        ours.report(target, UpstreamUnreachable("refused"))
    with pytest.raises(CircuitOpen):
        await asyncio.wait_for(waiter, 0.2)


def test_what_a_client_did_wrong_never_opens_a_circuit() -> None:
    ours = pool_of(FOREIGN)
    fail(ours, 20, UpstreamRefused("temperature is too high"))
    assert target_of(ours).replica_id == "r1"


def test_what_the_gateway_itself_met_says_nothing_of_the_engine() -> None:
    ours = pool_of(FOREIGN)
    fail(ours, 4)
    fail(ours, 20, DatabaseUnavailable("locked"))
    fail(ours, 20, InvalidRequest("no images here"))
    fail(ours, 1)
    with pytest.raises(CircuitOpen):
        ours.try_take("assistant", b"")


def test_after_a_while_one_request_tries_and_if_it_works_all_follow() -> None:
    ours = Pool(SwapSettings(), PoolSettings(circuit_open_seconds=0.05))
    ours.apply(pool_of(FOREIGN).table)
    fail(ours)
    time.sleep(0.06)
    trial = target_of(ours)
    with pytest.raises(CircuitOpen):
        ours.try_take("assistant", b"")
    ours.report(trial, None)
    assert [target_of(ours).replica_id for _ in range(3)] == ["r1"] * 3


def test_a_replica_that_just_failed_is_not_chosen_for_the_next_try() -> None:
    ours = pool_of(view("r1"), view("r2"))
    for error in (FAILURE, UpstreamUnreachable("refused"), UpstreamOverloaded("busy"), ReleaseNotHeld("not here")):
        ours.apply(RoutingTable())
        ours.apply(pool_of(view("r1"), view("r2")).table)
        ours._declined.clear()
        first = ours.try_take("assistant", b"", b"a prompt")
        assert first is not None
        ours.report(first.target, error)
        first.release()
        again = ours.try_take("assistant", b"", b"a prompt")
        assert again is not None
        assert again.target.replica_id != first.target.replica_id
        again.release()


async def test_an_engine_that_its_agent_starts_again_is_waited_for_however_often_it_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = pool_of(view())
    fail(ours, 9, UpstreamUnreachable("refused"))  # its agent has not noticed yet
    waiter = asyncio.create_task(ours.take("assistant", b""))
    await asyncio.sleep(0.01)
    monkeypatch.setattr("gateway.routing.pool.NOTICE_SECONDS", 0.0)
    ours.apply(replace(ours.table, epoch=2, replicas=(view(ready=False, restarts=1),)))
    await asyncio.sleep(0.3)
    assert not waiter.done()
    ours.apply(replace(ours.table, epoch=3, replicas=(view(restarts=1),)))
    assert (await asyncio.wait_for(waiter, patient(1))).target.replica_id == "r1"


def test_an_engine_with_an_agent_that_fails_on_is_cut_off_once_its_agent_had_time_to_notice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = pool_of(view())
    fail(ours)
    assert ours.try_take("assistant", b"") is None
    monkeypatch.setattr("gateway.routing.pool.NOTICE_SECONDS", 0.0)
    with pytest.raises(CircuitOpen):
        ours.try_take("assistant", b"")


@pytest.mark.parametrize("error", [UpstreamUnreachable("refused"), UpstreamBrokeOff()])
def test_an_engine_that_is_silent_is_waited_for_longer_as_a_busy_agent_notices_late(
    monkeypatch: pytest.MonkeyPatch, error: AlignwayError
) -> None:
    ours = pool_of(view())
    fail(ours, 9, error)
    monkeypatch.setattr("gateway.routing.pool.NOTICE_SECONDS", 0.0)
    assert ours.try_take("assistant", b"") is None
    monkeypatch.setattr("gateway.routing.pool.SILENT_NOTICE_SECONDS", 0.0)
    with pytest.raises(CircuitOpen):
        ours.try_take("assistant", b"")


def test_a_broken_replica_beside_one_that_changes_weights_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.routing.pool.NOTICE_SECONDS", 0.0)
    ours = pool_of(view("r1"))
    fail(ours)
    ours.apply(replace(ours.table, replicas=(view("r1"), view("r2", fenced=True))))
    assert ours.try_take("assistant", b"") is None


def test_an_engine_without_an_agent_that_failed_its_probes_is_not_waited_for() -> None:
    with pytest.raises(CircuitOpen):
        pool_of(view(managed=False, ready=False)).try_take("assistant", b"")


def test_two_restarts_seen_as_one_look_give_a_clean_record() -> None:
    ours = pool_of(view())
    fail(ours)
    ours.apply(replace(ours.table, replicas=(view(restarts=1),)))
    assert target_of(ours).replica_id == "r1"


async def test_when_the_time_to_drain_is_over_who_waits_and_who_comes_is_told() -> None:
    ours = pool_of(view(fenced=True))
    waiters = [asyncio.create_task(ours.take("assistant", b"")) for _ in range(3)]
    await asyncio.sleep(0.01)
    ours.shut()
    for waiter in waiters:
        with pytest.raises(ServerShuttingDown) as told:
            await asyncio.wait_for(waiter, 0.2)
        assert (told.value.status, told.value.code) == (503, "server_shutting_down")
    with pytest.raises(ServerShuttingDown):
        ours.try_take("assistant", b"")


def test_a_release_named_like_an_alias_does_not_hide_the_alias() -> None:
    release, twin = ReleaseView("rel_old", "name", "assistant"), ReleaseView("rel_b", "assistant", "other")
    aliases = {"assistant": AliasView("assistant", "rel_old"), "other": AliasView("other", "rel_b")}
    route, pinned = RoutingTable(1, aliases, {"rel_b": twin, "rel_old": release}, (view(),)).find("assistant")
    assert (route.alias.name, pinned) == ("assistant", None)


def test_a_request_that_its_engine_cannot_bear_cuts_off_nobody_else() -> None:
    ours = pool_of(view())
    target = target_of(ours)
    for _ in range(20):
        ours.report(target, UpstreamError("500"), b"poison")
    assert ours.try_take("assistant", b"") is not None
    for prompt in (b"one", b"two", b"three", b"four"):
        ours.report(target, UpstreamError("500"), prompt)
    assert ours.circuits() == {target.replica_id: "open"}
