"""Votes beyond a minute's limit are told to wait, each kind of sender by itself."""

import pytest

from gateway.errors import RateLimited
from gateway.feedback.pace import VotePace
from gateway.settings import FeedbackSettings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_rater_may_send_a_minutes_votes_at_once_and_then_one_by_one(clock: Clock) -> None:
    pace = VotePace(FeedbackSettings(votes_per_minute_per_rater=6), 1, clock)
    for _ in range(6):
        pace.count(key="k", rater="ana", address="1")
    with pytest.raises(RateLimited, match="rater has sent 6 votes") as refused:
        pace.count(key="k", rater="ana", address="1")
    assert refused.value.retry_after_seconds == pytest.approx(10.0)  # 60 s for 6 votes
    pace.count(key="k", rater="ben", address="1")
    clock.now = 9.9
    with pytest.raises(RateLimited):
        pace.count(key="k", rater="ana", address="1")
    clock.now = 10.0
    pace.count(key="k", rater="ana", address="1")


def test_a_refused_vote_costs_the_others_nothing(clock: Clock) -> None:
    pace = VotePace(FeedbackSettings(votes_per_minute_per_rater=1, votes_per_minute_per_key=2), 1, clock)
    pace.count(key="k", rater="ana", address=None)
    for _ in range(5):
        with pytest.raises(RateLimited, match="rater"):
            pace.count(key="k", rater="ana", address=None)
    pace.count(key="k", rater="ben", address=None)
    with pytest.raises(RateLimited, match="votes_per_minute_per_key"):
        pace.count(key="k", rater="cy", address=None)


def test_workers_share_a_limit_evenly(clock: Clock) -> None:
    pace = VotePace(FeedbackSettings(votes_per_minute_per_address=10), 5, clock)
    pace.count(key="k", rater="r", address="1")
    pace.count(key="k", rater="r", address="1")
    with pytest.raises(RateLimited, match="address"):
        pace.count(key="k", rater="r", address="1")


def test_without_limits_nothing_is_refused(clock: Clock) -> None:
    pace = VotePace(FeedbackSettings(), 1, clock)
    for _ in range(1000):
        pace.count(key="k", rater="r", address="1")
