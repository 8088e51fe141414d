"""How a canary goes on: each decision against one worked out by hand."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from gateway.rollout.canary import Decision, Trial, decide
from gateway.rollout.evidence import Signal, VoteCount
from gateway.sections.canary import CanarySettings

RULES = CanarySettings()
UNATTENDED = CanarySettings(unattended=True)
FIRST = Trial(0.05, began_at=1000.0, asked_by_person=True, gates_green=True, requests=200, measured_at=2795.0)
LAST = replace(FIRST, share=0.25)
OVER = 2800.0
"""When a step that began at 1000 has lasted its 1800 seconds."""
BETTER, WORSE = VoteCount(8, 8, 28.4, "better"), VoteCount(8, 0, 28.4, "worse")


def action(trial: Trial, rules: CanarySettings = RULES, now: float = OVER) -> tuple[str, float | None]:
    decision = decide(trial, rules, now)
    return decision.action, decision.share


def test_a_step_is_taken_when_both_its_time_and_its_requests_are_over() -> None:
    assert action(FIRST) == ("raise", 0.25)
    assert decide(FIRST, RULES, OVER - 60) == Decision("wait", "this step lasts 60 s and 0 requests more")
    assert decide(replace(FIRST, requests=150), RULES, OVER) == Decision(
        "wait", "this step lasts 0 s and 50 requests more"
    )
    assert action(LAST) == ("promote", None)


def test_nobody_goes_on_by_old_evidence() -> None:
    assert action(FIRST, now=2855.0) == ("raise", 0.25)  # 60 seconds old
    assert decide(FIRST, RULES, 2855.1).reason.startswith("the candidate was not measured lately")
    assert action(FIRST, CanarySettings(look_seconds=20), now=2895.0) == ("raise", 0.25)  # five looks
    assert action(FIRST, CanarySettings(look_seconds=20), now=2895.1) == ("wait", None)


def test_a_first_share_of_ones_own_goes_on_with_the_next_greater_step() -> None:
    assert action(replace(FIRST, share=0.01)) == ("raise", 0.05)
    assert action(replace(FIRST, share=0.1)) == ("raise", 0.25)
    assert action(replace(FIRST, share=0.5)) == ("promote", None)


def test_a_bad_signal_and_worse_votes_reject_at_any_time() -> None:
    bad = replace(FIRST, requests=50, signals=(Signal("errors", True, 0.2, 0.0, "10 of 50 requests failed"),))
    assert decide(bad, RULES, 1001.0) == Decision("reject", "errors: 10 of 50 requests failed")
    assert action(replace(FIRST, votes=WORSE), now=1001.0) == ("reject", None)


def test_better_votes_end_no_step_early() -> None:
    assert action(replace(FIRST, votes=BETTER), now=1001.0) == ("wait", None)
    assert action(replace(FIRST, votes=BETTER)) == ("raise", 0.25)


def test_votes_that_do_not_decide_stop_it_at_their_number_and_not_before() -> None:
    assert action(replace(LAST, votes=VoteCount(1999, 1000, 1.0))) == ("promote", None)
    assert action(replace(LAST, votes=VoteCount(2000, 1000, 1.0)), now=1001.0) == ("stop", None)
    assert action(replace(LAST, votes=VoteCount(2000, 1100, 25.0, "better"))) == ("promote", None)


@pytest.mark.parametrize(
    ("by_person", "green", "rules", "expected"),
    [
        (True, False, RULES, "promote"),
        (False, True, RULES, "wait"),
        (False, True, UNATTENDED, "promote"),
        (False, False, UNATTENDED, "wait"),
        (True, False, UNATTENDED, "promote"),
    ],
)
def test_all_traffic_follows_if_a_person_asked_or_unattended_with_every_gate_green(
    by_person: bool, green: bool, rules: CanarySettings, expected: str
) -> None:
    assert action(replace(LAST, asked_by_person=by_person, gates_green=green), rules)[0] == expected


@pytest.mark.parametrize("steps", [(), (0.25, 0.05), (0.05, 0.05), (0.0, 0.5), (0.5, 1.0)])
def test_steps_that_do_not_grow_within_0_and_1_are_refused(steps: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        CanarySettings(steps=steps)
