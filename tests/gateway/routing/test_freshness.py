"""A table is dispatched by while it is fresh; then the database is asked first, and done without if it is away."""

import asyncio

import pytest

from gateway.routing import freshness
from gateway.routing.freshness import FRESH_SECONDS, Freshness
from tests.patience import patient


class Clock:
    """A monotonic clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def waiting(fresh: Freshness) -> "asyncio.Task[None]":
    task = asyncio.create_task(fresh.wait())
    await asyncio.sleep(0.01)
    return task


async def test_a_fresh_table_is_not_waited_for(clock: Clock) -> None:
    fresh = Freshness(clock)
    fresh.confirm(clock.now)
    clock.now += FRESH_SECONDS - 0.01
    assert (await waiting(fresh)).done()


async def test_a_stale_table_is_waited_for_until_it_is_confirmed(clock: Clock) -> None:
    fresh = Freshness(clock)
    fresh.confirm(clock.now)
    clock.now += 10.0
    task = await waiting(fresh)
    assert not task.done()
    fresh.confirm(clock.now)
    fresh.attempted(clock.now)
    await asyncio.wait_for(task, patient(1))


async def test_an_attempt_from_before_the_pause_says_nothing_of_now(clock: Clock) -> None:
    fresh = Freshness(clock)
    fresh.confirm(clock.now)
    began = clock.now
    clock.now += 10.0
    task = await waiting(fresh)
    fresh.confirm(began)
    fresh.attempted(began)
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()


async def test_one_failed_attempt_is_enough_to_go_on_for_a_while(clock: Clock) -> None:
    fresh = Freshness(clock)
    fresh.confirm(clock.now)
    clock.now += 10.0
    task = await waiting(fresh)
    fresh.attempted(clock.now)
    await asyncio.wait_for(task, patient(1))
    assert (await waiting(fresh)).done()
    clock.now += 10.0
    again = await waiting(fresh)
    assert not again.done()
    again.cancel()


async def test_a_database_that_does_not_answer_counts_as_away(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "PATIENCE_SECONDS", 0.05)
    fresh = Freshness(clock)
    fresh.confirm(clock.now - 10.0)
    await asyncio.wait_for(fresh.wait(), 1)


async def test_a_pause_while_waiting_begins_the_wait_anew(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "PATIENCE_SECONDS", 0.1)
    fresh = Freshness(clock)
    fresh.confirm(clock.now - 10.0)
    task = await waiting(fresh)
    clock.now += 60.0
    await asyncio.sleep(0.15)
    assert not task.done()
    await asyncio.wait_for(task, patient(1))
