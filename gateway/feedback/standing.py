"""What becomes of a vote by a blocked rater, by a trusted one, and with a key that allows no training. Pure."""

from dataclasses import replace

from gateway.feedback.pairing import Candidate
from gateway.feedback.vote import Vote
from gateway.storage.raters import BLOCKED, Standing

NO_TRAINING = "no_training_key"
"""Why a pair is excluded that a key with `train = false` has part in."""


def under(vote: Vote, standing: Standing) -> Vote:
    """The vote with its rater's trust, and without candidates where a key allows no training."""
    rater = vote.rater
    if standing.trusted and not rater.trusted:
        rater = rater.model_copy(update={"trusted": True})
    if standing.may_train:
        return vote if rater is vote.rater else replace(vote, rater=rater)
    candidates = tuple(replace(one, reason=one.reason or NO_TRAINING) for one in vote.candidates)
    return replace(vote, rater=rater, candidates=candidates)


def status_of(standing: Standing) -> str:
    """`active`, or `held` as long as the rater is blocked."""
    return "held" if standing.blocked else "active"


def state_of(candidate: Candidate, standing: Standing) -> tuple[str, str | None]:
    """State and reason of a pair: what the rules say of it, unless its rater is blocked."""
    if candidate.reason is None and standing.blocked:
        return "held", BLOCKED
    return candidate.state, candidate.reason
