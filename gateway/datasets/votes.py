"""One pair of one vote, as the rules see it: narrow, because there may be a million. Pure."""

from typing import NamedTuple

from gateway.contracts.pair import Basis


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
