"""Settings of the canary: how a candidate is tried on a share of the traffic, and what ends that."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from gateway.sections.section import Section

Ratio = Annotated[float, Field(gt=1)]
UpTo200 = Annotated[int, Field(gt=0, le=200)]
UpTo2000 = Annotated[int, Field(gt=0, le=2000)]
StepShare = Annotated[float, Field(gt=0, lt=1)]


class CanarySettings(Section):
    """The steps of `strategy = canary`, and the signals on which a release is rolled back without being asked."""

    steps: tuple[StepShare, ...] = (0.05, 0.25)
    """The candidate's share of the traffic, step by step; all of it follows the last."""
    dwell_seconds: NonNegativeFloat = 1800.0
    """Each step lasts at least this long."""
    dwell_requests: Annotated[int, Field(ge=0, le=2000)] = 200
    """And at least until the candidate has answered so many requests in it."""
    e_value: Ratio = 20.0
    """Evidence at which votes decide: who looks all the time errs at most once in so many canaries."""
    max_votes: PositiveInt = 2000
    """After so many votes that do not decide, no difference is found and the incumbent stays."""
    unattended: bool = False
    """Try and promote, without a person, releases whose every gate passed with a sure gain on 200 held-out pairs."""
    watch_seconds: NonNegativeFloat = 86400.0
    """So long after a promotion a bad signal still rolls it back; 0: never."""
    look_seconds: PositiveFloat = 5.0
    """How often the evidence is measured."""
    error_ratio: Ratio = 2.0
    """Rolled back where the share of failed requests is more than so many times the incumbent's."""
    error_points: NonNegativeFloat = 0.01
    """And exceeds it by more than this."""
    error_min_requests: UpTo2000 = 50
    """And so many requests were counted, of the newest 2000."""
    error_min_count: PositiveInt = 5
    """And so many of them failed: a single failure is no rate."""
    answer_ratio: Ratio = 2.0
    """Rolled back where the share of empty, looping or truncated answers is more than so many times the incumbent's."""
    answer_points: NonNegativeFloat = 0.01
    """And exceeds it by more than this."""
    answer_min_requests: UpTo200 = 50
    """And so many answers of either release were looked at, of the newest 200."""
    answer_min_count: PositiveInt = 5
    """And so many of the candidate's were bad."""
    ttft_ratio: Ratio = 1.5
    """Rolled back where the 95th percentile of the time to the first token is above so many times the incumbent's."""
    ttft_seconds: PositiveFloat = 300.0
    """In both halves of a span this long."""
    ttft_min_difference: NonNegativeFloat = 0.05
    """And by at least so many seconds: a few milliseconds are noise."""
    ttft_min_requests: PositiveInt = 20
    """And so many requests of either release were timed in each half."""
    engine_restarts: PositiveInt = 2
    """Rolled back where engines that hold the candidate have died so often since the step began, and the others of the
    alias less often."""

    @field_validator("steps")
    @classmethod
    def _grow(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if not steps or list(steps) != sorted(set(steps)):
            raise ValueError("canary.steps needs one step or more, each greater than the one before")
        return steps
