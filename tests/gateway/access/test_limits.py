"""Limits over several workers, each with a limiter of its own over one real database."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.access import limits as limits_module
from gateway.access.caller import Caller, KeyLimits
from gateway.access.limits import Admission, Limiter
from gateway.errors import DatabaseUnavailable, RateLimited
from gateway.storage.database import Database

T0 = 1_800_000_000.0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> float:
        return self.now


class Leaving(Database):
    """A database that can go away."""

    away = False

    @asynccontextmanager
    async def write(self, durability: Any = "durable") -> AsyncIterator[Any]:
        if self.away:
            raise DatabaseUnavailable("away")
        async with super().write(durability) as session:
            yield session


def caller(requests: int | None = None, tokens: int | None = None, streams: int | None = None) -> Caller:
    return Caller("key_1", "proj_1", frozenset({"inference"}), "test", KeyLimits(requests, tokens, streams))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def workers(database_url: str, clock: Clock) -> AsyncIterator[Callable[[int], list[Limiter]]]:
    made: list[Limiter] = []

    def make(count: int) -> list[Limiter]:
        made.extend(Limiter(Leaving(database_url), f"gw_{number}", clock=clock) for number in range(count))
        return made

    yield make
    for limiter in made:
        limiter._database.away = False  # type: ignore[attr-defined]
        await limiter.close()


async def ask(limiter: Limiter, who: Caller, tokens: int = 0) -> Admission | None:
    try:
        return limiter.try_admit(who, tokens) or await limiter.admit(who, tokens)
    except RateLimited:
        return None


async def tick(limiters: list[Limiter]) -> None:
    for limiter in limiters:
        limiter.tick()
        await limiter.told()


def most_within_a_minute(moments: list[tuple[float, int]]) -> int:
    """The most that any 60 s hold; the fullest window begins with one of the moments."""
    return max(sum(amount for at, amount in moments if start <= at < start + 60) for start, _ in moments)


async def test_greedy_workers_get_the_limit_and_no_more(workers: Callable[[int], list[Limiter]], clock: Clock) -> None:
    """Three workers, three minutes, three times as many requests as are allowed, at changing places."""
    limiters, who, limit = workers(3), caller(requests=100), 100
    chance, admitted = random.Random(7), list[tuple[float, int]]()
    asked = 0
    for step in range(180):
        clock.now = T0 + step
        favourite = chance.randrange(3)
        for _ in range(5):
            asked += 1
            limiter = limiters[favourite if chance.random() < 0.7 else chance.randrange(3)]
            admission = await ask(limiter, who)
            if admission is not None:
                admission.settle(0, 0)
                admitted.append((clock.now, 1))
        await tick(limiters)
    assert asked == 900
    assert most_within_a_minute(admitted) <= limit + 3 * limit // 10
    assert len(admitted) >= 3 * limit * 0.9


async def test_whoever_keeps_to_nine_tenths_of_the_limit_is_never_refused(
    workers: Callable[[int], list[Limiter]], clock: Clock
) -> None:
    """A request every 0.67 s is 90 a minute; each goes to the next of two workers."""
    limiters, who = workers(2), caller(requests=100)
    for number in range(150):
        clock.now = T0 + number * 60 / 90
        admission = await ask(limiters[number % 2], who)
        assert admission is not None, f"request {number} was refused"
        admission.settle(1, 1)
        if number % 2:
            await tick(limiters)


async def test_tokens_are_kept_to_what_was_really_used(workers: Callable[[int], list[Limiter]], clock: Clock) -> None:
    """Each request reserves 500 tokens and uses 100: a limit of 10,000 lets in 100 of them a minute, not 20."""
    limiters, who = workers(2), caller(tokens=10_000)
    used, chance = list[tuple[float, int]](), random.Random(3)
    for step in range(240):
        clock.now = T0 + step / 2
        for _ in range(2):
            admission = await ask(chance.choice(limiters), who, tokens=500)
            if admission is not None:
                used.append((clock.now, 100))
                admission.settle(60, 40)
        await tick(limiters)
    assert most_within_a_minute(used) <= 10_000 + 2 * 1000
    assert len(used) >= 2 * 100 * 0.9


async def test_tokens_beyond_the_reservation_count_too(workers: Callable[[int], list[Limiter]], clock: Clock) -> None:
    """1,000 used where 10 were reserved leave nothing of 900."""
    limiters, who = workers(2), caller(tokens=900)
    first = await limiters[0].admit(who, 10)
    first.settle(500, 500)
    await tick(limiters)
    assert await ask(limiters[1], who, 1) is None
    clock.now += 61
    assert await ask(limiters[1], who, 1) is not None


async def test_streams_are_counted_over_all_workers(workers: Callable[[int], list[Limiter]]) -> None:
    one, other = workers(2)
    who = caller(streams=3)
    open_ = [await one.admit(who, 0), await one.admit(who, 0), await other.admit(who, 0)]
    with pytest.raises(RateLimited, match="3 requests open at once") as refused:
        await other.admit(who, 0)
    assert refused.value.retry_after_seconds == 1.0
    open_[0].settle(0, 0)
    open_[0].settle(0, 0)  # once is enough
    open_.append(await other.admit(who, 0))
    assert await ask(one, who) is None
    assert await ask(other, who) is None


async def test_streams_of_a_dead_worker_are_free_again_and_those_of_a_live_one_are_not(
    workers: Callable[[int], list[Limiter]], clock: Clock
) -> None:
    dead, live, other = workers(3)
    who = caller(streams=2)
    await dead.admit(who, 0)
    await live.admit(who, 0)
    for _ in range(6):
        clock.now += 1
        await tick([live, other])
    assert await ask(other, who) is not None
    assert await ask(other, who) is None


async def test_what_a_stopping_worker_holds_is_free_at_once(
    workers: Callable[[int], list[Limiter]], database_url: str, clock: Clock
) -> None:
    (stays,) = workers(1)
    leaves = Limiter(Database(database_url), "gw_leaves", clock=clock)
    who = caller(requests=20, streams=1)
    await leaves.admit(who, 0)
    assert await ask(stays, who) is None
    await leaves.close()
    admission = await stays.admit(who, 0)
    assert dict(admission.headers)["x-ratelimit-remaining-requests"] == "18"


async def test_requests_at_the_same_moment_are_let_in_up_to_the_limit(database_url: str) -> None:
    """Real concurrency and the real clock: 300 requests at once at three workers, of which 100 are allowed."""
    limiters = [Limiter(Database(database_url), f"gw_{number}") for number in range(3)]
    who = caller(requests=100)
    answers = await asyncio.gather(*(ask(limiters[number % 3], who) for number in range(300)))
    for limiter in limiters:
        await limiter.close()
    assert 90 <= sum(answer is not None for answer in answers) <= 100


async def test_a_refusal_says_when_to_come_back_in_openai_s_words(
    workers: Callable[[int], list[Limiter]], clock: Clock
) -> None:
    (limiter,) = workers(1)
    who = caller(requests=2, tokens=1000)
    first = await limiter.admit(who, 300)
    assert first.headers == (
        ("x-ratelimit-limit-requests", "2"),
        ("x-ratelimit-remaining-requests", "1"),
        ("x-ratelimit-reset-requests", "1m0s"),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "700"),
        ("x-ratelimit-reset-tokens", "1m0s"),
    )
    clock.now = T0 + 20
    await limiter.admit(who, 300)
    with pytest.raises(RateLimited, match="2 requests a minute") as refused:
        await limiter.admit(who, 1)
    error = refused.value
    assert (error.status, error.type, error.code) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert error.retry_after_seconds == 40.5  # the half second of the first request ends at T0 + 0.5
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.headers["x-ratelimit-remaining-tokens"] == "400"
    assert error.headers["x-ratelimit-reset-requests"] == "1m0.5s"
    clock.now = T0 + 60.5
    await limiter.admit(who, 1)


async def test_a_request_over_the_whole_limit_is_told_not_to_come_back(
    workers: Callable[[int], list[Limiter]],
) -> None:
    (limiter,) = workers(1)
    with pytest.raises(RateLimited, match="max_tokens") as refused:
        await limiter.admit(caller(tokens=100), 101)
    assert refused.value.retry_after_seconds is None
    assert refused.value.headers["x-should-retry"] == "false"


async def test_refusals_do_not_ask_the_database_each_time(
    workers: Callable[[int], list[Limiter]], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (limiter,) = workers(1)
    who, asked = caller(requests=1), 0
    change_states = limits_module.change_states

    async def counted(*arguments: Any) -> None:
        nonlocal asked
        asked += 1
        await change_states(*arguments)

    monkeypatch.setattr(limits_module, "change_states", counted)
    await limiter.admit(who, 0)
    for _ in range(100):
        assert await ask(limiter, who) is None
    assert asked == 2


async def test_without_a_database_each_worker_lets_in_its_share_for_five_minutes(
    workers: Callable[[int], list[Limiter]], clock: Clock
) -> None:
    limiters, who = workers(2), caller(requests=40)
    for limiter in limiters * 2:
        assert await ask(limiter, who) is not None
    clock.now += 1.1
    await tick(limiters)
    clock.now += 120
    for limiter in limiters:
        limiter._database.away = True  # type: ignore[attr-defined]
    admitted = [[await ask(limiter, who) for _ in range(40)] for limiter in limiters]
    assert [sum(each is not None for each in one) for one in admitted] == [20, 20]
    clock.now += 299
    assert await ask(limiters[0], who) is not None
    clock.now += 2
    with pytest.raises(DatabaseUnavailable):
        await limiters[0].admit(who, 0)


@pytest.mark.parametrize("ticks", [0, 2])
async def test_a_database_that_is_back_is_asked_again_though_there_was_nothing_to_tell_it(
    workers: Callable[[int], list[Limiter]], clock: Clock, ticks: int
) -> None:
    (limiter,) = workers(1)
    who = caller(tokens=10)
    limiter._database.away = True  # type: ignore[attr-defined]
    assert await ask(limiter, who, tokens=1000) is None
    limiter._database.away = False  # type: ignore[attr-defined]
    clock.now += 1000
    for _ in range(ticks):
        await tick([limiter])
    assert await ask(limiter, who, tokens=1) is not None


async def test_what_was_let_in_without_a_database_counts_once_it_is_back(
    workers: Callable[[int], list[Limiter]], clock: Clock
) -> None:
    away, other = workers(2)
    who = caller(requests=5)
    away._database.away = True  # type: ignore[attr-defined]
    for _ in range(3):
        assert await ask(away, who) is not None
    away._database.away = False  # type: ignore[attr-defined]
    clock.now += 1
    await tick([away])
    assert sum([await ask(other, who) is not None for _ in range(5)]) == 2


async def test_a_client_that_leaves_while_it_waits_takes_nothing(
    workers: Callable[[int], list[Limiter]],
) -> None:
    (limiter,) = workers(1)
    who = caller(requests=5, streams=1)
    waiting = asyncio.create_task(limiter.admit(who, 0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await limiter.told()
    await tick([limiter])
    admission = await limiter.admit(who, 0)
    assert dict(admission.headers)["x-ratelimit-remaining-requests"] == "4"


async def test_default_limits_hold_for_keys_without_own(database_url: str, clock: Clock) -> None:
    limiter = Limiter(Database(database_url), "gw_1", KeyLimits(requests_per_minute=1), clock)
    assert await ask(limiter, caller()) is not None
    assert await ask(limiter, caller()) is None
    own = Caller("key_own", "proj_1", frozenset(), "own", KeyLimits(requests_per_minute=2))
    assert [await ask(limiter, own) is not None for _ in range(3)] == [True, True, False]
    await limiter.close()


def test_a_key_without_limits_never_asks_the_database(clock: Clock) -> None:
    limiter = Limiter(Database("sqlite+aiosqlite:////nowhere/at/all.db"), "gw_1", clock=clock)
    admission = limiter.try_admit(caller(), 1_000_000)
    assert admission is not None
    assert admission.headers == ()


async def test_requests_that_come_while_the_database_is_asked_are_not_asked_about_one_by_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = Limiter(database, "worker-1")
    exchanges = 0
    exchange = limiter._exchange

    async def counted(*arguments: Any) -> Any:
        nonlocal exchanges
        exchanges += 1
        await asyncio.sleep(0.02)  # a slow database: others come meanwhile
        return await exchange(*arguments)

    monkeypatch.setattr(limiter, "_exchange", counted)
    caller = Caller("key_1", "proj_1", frozenset(), "a key", KeyLimits(1_000_000, 1_000_000_000, 10_000))

    async def ask(delay: float) -> None:
        await asyncio.sleep(delay)
        (await limiter.admit(caller, 100)).settle(50, 40)

    await asyncio.gather(*(ask(number * 0.001) for number in range(200)))
    assert exchanges <= 4  # a slice lasts a second; before, each answer was followed by the next question
