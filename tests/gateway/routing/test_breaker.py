"""A circuit opens after five failures in a row, lets one trial through now and then, and closes when one works."""

import pytest

from gateway.routing.breaker import LONGEST_OPEN_SECONDS, REST_SECONDS, Breaker, State


class Clock:
    """A monotonic clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(max_failures=5, open_seconds=5.0, clock=clock)


def fail(breaker: Breaker, times: int) -> list[bool]:
    return [breaker.failed("r1", rest=False) for _ in range(times)]


def test_the_fifth_failure_in_a_row_opens_it(breaker: Breaker) -> None:
    assert fail(breaker, 4) == [False] * 4
    assert breaker.passes("r1")
    assert fail(breaker, 1) == [True]
    assert not breaker.passes("r1")
    assert breaker.passes("r2")


def test_one_prompt_that_fails_again_and_again_counts_once(breaker: Breaker) -> None:
    assert [breaker.failed("r1", rest=False, prompt=7) for _ in range(20)] == [False] * 20
    assert breaker.passes("r1")
    assert [breaker.failed("r1", rest=False, prompt=each) for each in (1, 2, 3, 4)] == [False, False, False, True]


def test_prompts_that_fail_in_turn_count_once_each(breaker: Breaker) -> None:
    assert [breaker.failed("r1", rest=False, prompt=number % 4) for number in range(40)] == [False] * 40
    assert breaker.passes("r1")
    assert breaker.failed("r1", rest=False, prompt=4)
    assert not breaker.passes("r1")


def test_what_fails_while_it_is_open_is_not_remembered(breaker: Breaker) -> None:
    assert [breaker.failed("r1", rest=False, prompt=number) for number in range(1000)].count(True) == 1
    assert len(breaker._circuits["r1"].prompts) == 5


def test_an_engine_that_nobody_can_reach_opens_it_whatever_is_asked(breaker: Breaker) -> None:
    assert [breaker.failed("r1", rest=True, prompt=None) for _ in range(5)] == [False] * 4 + [True]


def test_what_works_in_between_begins_the_count_anew(breaker: Breaker) -> None:
    fail(breaker, 4)
    assert not breaker.worked("r1")
    assert not breaker
    assert fail(breaker, 4) == [False] * 4


def test_one_trial_goes_through_after_its_time_and_no_second_beside_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 4.9
    assert not breaker.try_trial("r1")
    clock.now += 0.2
    assert breaker.try_trial("r1")
    assert breaker.state("r1") is State.HALF_OPEN
    assert not breaker.try_trial("r1")
    assert not breaker.passes("r1")


def test_a_trial_that_works_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 5.0
    assert breaker.try_trial("r1")
    assert breaker.worked("r1")
    assert breaker.passes("r1")
    assert breaker.state("r1") is State.CLOSED


def test_however_many_trials_fail_the_next_comes_within_20_seconds(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    waits = []
    for _ in range(6):
        waits.append(breaker.seconds_to_trial("r1"))
        clock.now += waits[-1]
        assert breaker.try_trial("r1")
        fail(breaker, 1)
    assert waits == [5, 10, 20, 20, 20, 20]
    assert LONGEST_OPEN_SECONDS < 30


def test_a_trial_that_is_never_heard_of_again_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 5.0
    assert breaker.try_trial("r1")
    clock.now += 5.0
    assert breaker.try_trial("r1")


def test_what_was_begun_before_the_trouble_does_not_close_it_nor_put_the_trial_off(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 5)
    clock.now += 3.0
    assert not breaker.worked("r1")
    fail(breaker, 3)
    assert breaker.state("r1") is State.OPEN
    assert breaker.seconds_to_trial("r1") == pytest.approx(2.0)


def test_who_took_no_connection_rests_and_who_answered_badly_is_second_choice(breaker: Breaker, clock: Clock) -> None:
    breaker.failed("r1", rest=True)
    breaker.failed("r2", rest=False)
    assert (breaker.passes("r1"), breaker.passes("r2")) == (False, True)
    assert breaker.failed_lately("r2")
    clock.now += REST_SECONDS
    assert (breaker.passes("r1"), breaker.failed_lately("r2")) == (True, False)


def test_an_engine_that_was_started_again_begins_with_a_clean_record(breaker: Breaker) -> None:
    fail(breaker, 5)
    breaker.forget("r1")
    assert breaker.passes("r1")
    assert fail(breaker, 4) == [False] * 4
