"""Newcomers wait unresolved and bounded; what is in flight is counted to the last byte."""

import asyncio
import time
from dataclasses import replace

import pytest

from gateway.engines.failures import ReleaseNotHeld, UpstreamUnreachable
from gateway.errors import ModelNotFound, NoReplicaReady, Overloaded
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView, Target
from gateway.routing.pool import Pool, ReleaseNotLoaded
from gateway.routing.table import RoutingTable
from gateway.settings import SwapSettings


def table(serving: str = "rel_old", weights: str = "rel_old", *, fenced: bool = False, epoch: int = 1) -> RoutingTable:
    releases = {name: ReleaseView(name, f"name-{name}", "assistant") for name in ("rel_old", "rel_new")}
    replica = ReplicaView("r1", "assistant", "http://r1", True, fenced, epoch, weights, frozenset())
    return RoutingTable(epoch, {"assistant": AliasView("assistant", serving)}, releases, (replica,))


def pool(**settings: float) -> Pool:
    return Pool(SwapSettings.model_validate(settings))


async def test_in_flight_lasts_as_long_as_the_request() -> None:
    ours = pool()
    ours.apply(table())
    async with ours.dispatch("assistant", b"") as target:
        assert target.release.id == "rel_old"
        assert ours.in_flight["r1"] == 1
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
        async with ours.dispatch("gpt-4", b""):
            pass


async def test_a_release_can_be_asked_for_by_name_and_by_id() -> None:
    ours = pool()
    ours.apply(table())
    for name in ("name-rel_old", "rel_old"):
        async with ours.dispatch(name, b"") as target:
            assert target.release.id == "rel_old"


async def test_a_replica_that_refused_a_connection_is_left_alone_for_a_moment() -> None:
    ours = pool(max_wait_seconds=0.1)
    ours.apply(table())
    ours.report(target_of(ours), UpstreamUnreachable("refused"))
    with pytest.raises(NoReplicaReady):
        await _release_of(ours)


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
            async with asyncio.timeout(1), ours.dispatch("name-rel_new", b""):
                pass
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
    async with ours.dispatch(model, b"") as target:
        return target.release.id


def target_of(ours: Pool) -> Target:
    lease = ours.try_take("assistant", b"")
    assert lease is not None
    lease.release()
    return lease.target
