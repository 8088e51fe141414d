"""The arithmetic of the shared record: what is given out, refused, lent, given back."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.caller import KeyLimits
from gateway.access.window import Ask, KeyWindow, Refusal, bucket_of

T0 = 1_000_000.0


def test_what_was_given_out_is_free_again_after_a_minute() -> None:
    window, limits = KeyWindow(), KeyLimits(requests_per_minute=5)
    assert window.exchange(limits, Ask("a", [0] * 6), T0).verdicts == [None] * 5 + [Refusal("requests", 60.0)]
    late = window.exchange(limits, Ask("a", [0]), T0 + 58)
    assert late.verdicts == [Refusal("requests", 2.5)]  # the half second from T0 leaves the window at T0 + 60.5
    assert window.exchange(limits, Ask("a", [0]), T0 + 60.5).verdicts == [None]


def test_a_slice_is_a_tenth_of_the_limit_for_all_workers_together() -> None:
    window, limits = KeyWindow(), KeyLimits(requests_per_minute=100, tokens_per_minute=1000)
    first = window.exchange(limits, Ask("a", [50]), T0)
    assert (first.spare, first.free) == ([10, 100], [100 - 1 - 10, 1000 - 50 - 100])
    second = window.exchange(limits, Ask("b", [50]), T0)
    assert second.spare == [0, 0]  # the first worker holds all that may lie idle
    window.exchange(limits, Ask("a", corrections={bucket_of(T0): [-10, -100]}), T0 + 1)
    third = window.exchange(limits, Ask("b", [50]), T0 + 1)
    assert third.spare == [10, 100]
    assert window.exchange(limits, Ask("a", [50]), T0 + 1).spare == [0, 0]


def test_two_busy_workers_come_to_hold_half_a_slice_each() -> None:
    window, limits = KeyWindow(), KeyLimits(requests_per_minute=1000)
    window.exchange(limits, Ask("a", [0]), T0)
    window.exchange(limits, Ask("b", [0]), T0)
    back = {bucket_of(T0): [-100, 0]}
    assert window.exchange(limits, Ask("a", [0], corrections=back), T0 + 1).spare[0] == 50
    assert window.exchange(limits, Ask("b", [0]), T0 + 1).spare[0] == 50


def test_a_small_limit_has_no_slices_so_that_nothing_lies_idle() -> None:
    grant = KeyWindow().exchange(KeyLimits(requests_per_minute=9, streams=9), Ask("a", [0]), T0)
    assert (grant.spare, grant.spare_streams) == ([0, 0], 0)


def test_a_request_over_the_whole_limit_never_fits_and_smaller_ones_behind_it_do() -> None:
    grant = KeyWindow().exchange(KeyLimits(tokens_per_minute=100), Ask("a", [101, 40]), T0)
    assert grant.verdicts == [Refusal("tokens", None), None]


def test_tokens_are_waited_for_until_enough_of_them_have_left() -> None:
    window, limits = KeyWindow(), KeyLimits(tokens_per_minute=100)
    window.exchange(limits, Ask("a", [30], wants_slice=False), T0)
    window.exchange(limits, Ask("a", [60], wants_slice=False), T0 + 10)
    assert window.exchange(limits, Ask("a", [20]), T0 + 20).verdicts == [Refusal("tokens", 40.5)]
    assert window.exchange(limits, Ask("a", [80]), T0 + 20).verdicts == [Refusal("tokens", 50.5)]


def test_streams_are_lent_across_workers_and_come_back() -> None:
    window, limits = KeyWindow(), KeyLimits(streams=3)
    assert window.exchange(limits, Ask("a", [0, 0]), T0).verdicts == [None, None]
    assert window.exchange(limits, Ask("b", [0, 0]), T0).verdicts == [None, Refusal("streams", 1.0)]
    window.exchange(limits, Ask("a", open=1), T0 + 1)
    assert window.exchange(limits, Ask("b", [0], open=1), T0 + 1).verdicts == [None]


def test_streams_of_a_worker_that_died_are_free_after_five_seconds() -> None:
    window, limits = KeyWindow(), KeyLimits(streams=2)
    window.exchange(limits, Ask("dead", [0, 0]), T0)
    assert window.exchange(limits, Ask("b", [0]), T0 + 4.9).verdicts != [None]
    assert window.exchange(limits, Ask("b", [0, 0]), T0 + 5).verdicts == [None, None]


def test_a_clock_set_back_by_an_hour_shuts_nobody_out() -> None:
    window, limits = KeyWindow(), KeyLimits(requests_per_minute=2, streams=1)
    window.exchange(limits, Ask("a", [0]), T0 + 3600)
    assert window.exchange(limits, Ask("b", [0]), T0).verdicts == [None]


def test_the_record_survives_being_written_down() -> None:
    limits = KeyLimits(requests_per_minute=50, streams=20)
    window = KeyWindow()
    window.exchange(limits, Ask("a", [7, 8]), T0)
    again = KeyWindow(window.state())
    assert again.state() == window.state()
    assert again.exchange(limits, Ask("b", [0]), T0).free[0] == 50 - 2 - 5 - 1


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.floats(0, 7), st.sampled_from("abc"), st.integers(0, 12), st.integers(0, 100)), max_size=60),
)
def test_no_minute_ever_has_more_given_out_than_the_limit(limit: int, steps: list[tuple[float, str, int, int]]) -> None:
    """Whatever workers ask for and give back, at whatever times."""
    window, limits, now = KeyWindow(), KeyLimits(requests_per_minute=limit), T0
    given_out: deque[list[float]] = deque()
    last: dict[str, list[float]] = {}
    for pause, worker, wanted, percent_unused in steps:
        now += pause
        slice_ = last.pop(worker, None)
        corrections = {}
        if slice_ is not None:
            unused = int(slice_[2] * percent_unused / 100)
            slice_[1] -= unused
            corrections = {bucket_of(slice_[0]): [-unused, 0]}
        grant = window.exchange(limits, Ask(worker, [0] * wanted, corrections=corrections), now)
        amount = grant.verdicts.count(None) + grant.spare[0]
        assert grant.spare[0] <= limit / 10
        last[worker] = [now, amount, grant.spare[0]]
        given_out.append(last[worker])
        while given_out and given_out[0][0] <= now - 60:
            given_out.popleft()
        assert sum(entry[1] for entry in given_out) <= limit
