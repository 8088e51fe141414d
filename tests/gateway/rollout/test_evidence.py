"""Each rule on a candidate against tables worked out by hand, and the test of votes against its promises."""

import math
from dataclasses import replace

import numpy
import pytest

from gateway.rollout.answers import flaws_of, loops
from gateway.rollout.evidence import (
    Rating,
    Restarts,
    Traffic,
    Vote,
    answers_signal,
    bet,
    errors_signal,
    judge_ratings,
    judge_votes,
    log_e,
    p95,
    restarts_signal,
    signals,
    ttft_signal,
)
from gateway.sections.canary import CanarySettings

RULES = CanarySettings()


def test_the_e_value_is_two_to_the_n_over_the_choices_and_n_plus_one() -> None:
    # A uniform prior gives w! l! / (n + 1)!; against 2^-n.
    for wins, losses, expected in (
        (0, 0, 1.0),
        (1, 0, 1.0),
        (2, 0, 4 / 3),
        (1, 1, 2 / 3),
        (8, 0, 256 / 9),
        (3, 1, 0.8),
    ):
        assert math.exp(log_e(wins, losses)) == pytest.approx(expected)
        assert log_e(losses, wins) == log_e(wins, losses)


def test_votes_decide_where_the_e_value_first_reaches_20_and_later_ones_change_nothing() -> None:
    # 2^n / (n + 1): 16 at 7, 28.4 at 8.
    assert bet([True] * 7, 20).verdict == "undecided"
    decided = bet([True] * 8 + [False] * 100, 20)
    assert (decided.votes, decided.wins, decided.verdict) == (8, 8, "better")
    assert decided.e_value == pytest.approx(256 / 9)
    assert bet([False] * 8, 20).verdict == "worse"


def test_what_one_rater_says_again_of_the_same_comparison_counts_once() -> None:
    votes = [Vote("ann", "p1", True)] * 50 + [Vote("ann", "p2", False), Vote("bob", "p1", False)]
    result = judge_votes(votes, 20, 2000)
    assert (result.votes, result.wins) == (3, 1)
    assert judge_votes(votes, 20, 2).votes == 2


def test_thumbs_count_once_for_each_rater_and_raters_who_agree_say_nothing() -> None:
    def ratings(prefix: str, downs: str, *, of_candidate: bool) -> list[Rating]:
        return [Rating(f"{prefix}{n}", of_candidate, down == "d") for n, down in enumerate(downs)]

    both = ratings("c", "dddudd", of_candidate=True) + ratings("i", "uduuu", of_candidate=False)
    result = judge_ratings([*both, *both], 20)  # pairs: d-u, d-d (says nothing), d-u, u-u (nothing), d-u; d alone
    assert (result.votes, result.wins) == (3, 0)
    many = ratings("c", "d" * 8, of_candidate=True) + ratings("i", "u" * 8, of_candidate=False)
    assert judge_ratings(many, 20).verdict == "worse"
    assert judge_ratings([Rating("one", True, True)] * 500 + ratings("i", "u" * 500, of_candidate=False), 20).votes == 1


def draws(chance: float, seed: int, runs: int = 400, looks: int = 3000) -> tuple[float, float, float]:
    """Share of runs that stop, share that stop upward, median vote at which they do; a look after every vote."""
    wins = numpy.cumsum(numpy.random.default_rng(seed).random((runs, looks)) < chance, axis=1)
    factorial = numpy.cumsum(numpy.log(numpy.maximum(numpy.arange(looks + 2), 1)))
    seen = numpy.arange(1, looks + 1)
    gain = seen * math.log(2) + factorial[wins] + factorial[seen - wins] - factorial[seen + 1]
    assert gain[0, 99] == pytest.approx(log_e(int(wins[0, 99]), 100 - int(wins[0, 99])))
    stopped = gain >= math.log(20)
    first = numpy.where(stopped.any(axis=1), stopped.argmax(axis=1), looks - 1)
    upward = stopped.any(axis=1) & (wins[numpy.arange(runs), first] * 2 > first + 1)
    return stopped.any(axis=1).mean(), upward.mean(), float(numpy.median(first + 1))


def test_of_candidates_that_are_no_different_at_most_5_percent_are_stopped_by_looking_3000_times() -> None:
    stopped, _, _ = draws(0.5, seed=20261129)
    assert stopped <= 0.05


def test_a_candidate_preferred_by_60_percent_is_found_better_after_about_200_votes() -> None:
    _, upward, median = draws(0.6, seed=20261129)
    assert upward == 1.0
    assert 160 <= median <= 250  # 203 in the design's own simulation


@pytest.mark.parametrize(
    ("candidate", "incumbent", "bad"),
    [
        ((6, 50), (5, 100), True),  # 12 % against 5 %
        ((6, 49), (5, 100), False),  # 49 requests
        ((5, 50), (5, 100), False),  # 10 % is twice 5 %, not more
        ((4, 60), (0, 1000), False),  # four failures are no rate
        ((5, 60), (0, 1000), True),
        ((5, 1000), (1, 1000), False),  # five times as many, but 0.4 points
        ((16, 1000), (5, 1000), True),  # 1.6 % against 0.5 %: 1.1 points
        ((5, 50), (0, 0), True),  # nothing to compare with
        ((0, 2000), (100, 2000), False),
    ],
)
def test_errors_are_bad_above_twice_the_rate_and_a_point_more(
    candidate: tuple[int, int], incumbent: tuple[int, int], bad: bool
) -> None:
    ours, theirs = (Traffic(requests=of, errors=count) for count, of in (candidate, incumbent))
    signal = errors_signal(ours, theirs, RULES)
    assert signal.bad is bad
    assert signal.reason.startswith(f"{candidate[0]} of {candidate[1]} requests failed")


@pytest.mark.parametrize(
    ("candidate", "incumbent", "bad"),
    [
        ((12, 100), (5, 100), True),
        ((10, 100), (5, 100), False),  # twice, not more
        ((4, 50), (0, 100), False),  # too few bad answers
        ((5, 50), (0, 100), True),
        ((20, 49), (0, 100), False),  # too few answers
        ((20, 50), (0, 49), False),  # and nothing to compare with
        ((5, 300), (2, 300), False),  # exactly a point
    ],
)
@pytest.mark.parametrize("kind", ["empty", "looping", "truncated"])
def test_bad_answers_are_bad_above_twice_their_share(
    kind: str, candidate: tuple[int, int], incumbent: tuple[int, int], bad: bool
) -> None:
    ours, theirs = (replace(Traffic(answers=of), **{kind: count}) for count, of in (candidate, incumbent))
    assert answers_signal(kind, ours, theirs, RULES).bad is bad


@pytest.mark.parametrize(
    ("earlier", "later", "bad"),
    [
        ((0.31, 0.2), (0.31, 0.2), True),
        ((0.30, 0.2), (0.31, 0.2), False),  # half as much again, not more, in the earlier half
        ((0.2, 0.2), (0.9, 0.2), False),  # it only began
        ((0.008, 0.002), (0.008, 0.002), False),  # four times as long, but 6 ms
    ],
)
def test_first_tokens_must_come_late_in_both_halves(
    earlier: tuple[float, float], later: tuple[float, float], bad: bool
) -> None:
    ours = Traffic(first_chunks=((earlier[0],) * 20, (later[0],) * 20))
    theirs = Traffic(first_chunks=((earlier[1],) * 20, (later[1],) * 20))
    assert ttft_signal(ours, theirs, RULES).bad is bad
    few = replace(ours, first_chunks=(ours.first_chunks[0], ours.first_chunks[1][:19]))
    assert not ttft_signal(few, theirs, RULES).bad


def test_the_95th_percentile_is_the_19th_of_20() -> None:
    assert p95([float(n) for n in range(20, 0, -1)]) == 19.0
    assert p95([3.0]) == 3.0
    assert p95([]) is None


@pytest.mark.parametrize(("ours", "theirs", "bad"), [(1, 0, False), (2, 0, True), (2, 2, False), (3, 2, True)])
def test_engines_must_die_twice_and_more_often_than_those_without_the_candidate(
    ours: int, theirs: int, bad: bool
) -> None:
    assert restarts_signal(Restarts(ours, theirs), RULES).bad is bad


def test_a_quiet_candidate_gives_no_bad_signal_and_a_reason_for_each() -> None:
    found = signals(Traffic(), Traffic(), bet([], 20), Restarts(), RULES)
    names = ["errors", "empty", "looping", "truncated", "ttft", "down_votes", "restarts"]
    assert [signal.name for signal in found] == names
    assert not any(signal.bad for signal in found)
    assert all(signal.reason for signal in found)


def choice(content: object, finish: str = "stop", **message: object) -> dict[str, object]:
    return {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}


@pytest.mark.parametrize(
    ("choices", "flaws"),
    [
        ([choice("Four.")], set()),
        ([choice(" \n")], {"empty"}),
        ([], {"empty"}),
        ([choice(None, tool_calls=[{"id": "1"}])], set()),
        ([choice(None, refusal="No.")], set()),
        ([choice([{"type": "text", "text": "Four."}])], set()),
        ([choice("It is", "length")], {"truncated"}),
        ([choice("so it is " * 20, "length")], {"looping", "truncated"}),
        ([choice("Four."), choice("")], {"empty"}),
    ],
)
def test_what_is_wrong_with_an_answer(choices: list[dict[str, object]], flaws: set[str]) -> None:
    assert flaws_of(choices) == flaws


def test_a_text_loops_when_half_its_runs_of_four_words_stood_there_before() -> None:
    once = " ".join(f"w{n}" for n in range(43))  # 40 runs, all new
    assert not loops(once)
    assert not loops("yes no " * 20)  # 37 runs: too short
    assert loops("yes no " * 22)
    assert loops("我不知道" * 15)
    assert not loops(f"{once} {once}")  # 83 runs, 40 of them again: 48 %
    assert loops(f"{once} {once} {once}")  # 126 runs, 83 of them again: 66 %
