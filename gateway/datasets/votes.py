"""One pair of one vote, as the rules see it: narrow, because there may be a million. Pure."""

from sys import intern
from typing import NamedTuple, get_args

from gateway.contracts.pair import Basis

_BASES: dict[Basis, Basis] = {basis: basis for basis in get_args(Basis)}


class PairVote(NamedTuple):
    """That somebody preferred one text to another; texts are digests here."""

    id: str
    feedback_id: str
    prompt_hash: str
    chosen: int
    rejected: int
    rater: str
    rater_kind: str
    trusted: bool
    basis: Basis
    source: str | None
    weight: float
    judged_at: float
    chosen_release: str | None
    """Which release wrote the side; None where no model did."""
    rejected_release: str | None

    @property
    def item(self) -> tuple[int, int]:
        """The two texts, whoever of them is preferred."""
        return (self.chosen, self.rejected) if self.chosen < self.rejected else (self.rejected, self.chosen)


def compact(vote: PairVote) -> PairVote:
    """The same vote; what it has in common with others is in memory once."""
    return PairVote(
        vote.id,
        vote.feedback_id,
        intern(vote.prompt_hash),
        vote.chosen,
        vote.rejected,
        intern(vote.rater),
        intern(vote.rater_kind),
        vote.trusted,
        _BASES[vote.basis],
        vote.source and intern(vote.source),
        vote.weight,
        vote.judged_at,
        vote.chosen_release and intern(vote.chosen_release),
        vote.rejected_release and intern(vote.rejected_release),
    )
