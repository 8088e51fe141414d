"""Several votes on the same two answers become one pair, or none. Pure.

One rater is believed. Two must agree. Three and more need a margin of two, or two thirds: two against one are two
thirds, and count; two against two, or three against two, do not. Of one rater's several words
(a vote and an import of it, say) the weightiest counts. A rater whose score on gold items is known counts by it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.datasets.votes import PairVote

CONFLICT, MINORITY, DUPLICATE = "conflict", "minority", "duplicate"
MARGIN = 2.0
_ROUNDING = 1e-9
NOTHING: Mapping[str, int] = {}


class Agreed(NamedTuple):
    """A pair that its votes agree on."""

    vote: PairVote
    """The one it is taken from: the weightiest of those that agree, of these a trusted one, of these the oldest: who
    comes late takes the credit from nobody."""
    raters: int
    """How many said so."""
    feedback_ids: tuple[str, ...]
    """The vote that each pair which says the same belongs to, the one it is taken from first."""
    struck: Mapping[str, int]
    """How many votes went into it without becoming a pair of their own, by reason."""
    merged: tuple[str, ...] = ()
    """The other pairs that say the same: each may follow from more votes than the one it belongs to."""


def agree(votes: Sequence[PairVote], gold: Mapping[str, float]) -> Agreed | Mapping[str, int]:
    """What the votes on one item of one prompt come to; or, where they come to nothing, how many were struck and why.

    gold   by rater, the share of gold items that were judged right; 1 where nothing is known
    """
    if len(votes) == 1:
        return Agreed(votes[0], 1, (votes[0].feedback_id,), NOTHING)
    own: dict[str, PairVote] = {}
    for vote in votes:
        known = own.setdefault(vote.rater, vote)
        if known is not vote and _rank(vote) > _rank(known):
            own[vote.rater] = vote
    one = min(votes[0].chosen, votes[0].rejected)
    ahead = [vote for vote in own.values() if vote.chosen == one]
    behind = [vote for vote in own.values() if vote.chosen != one]
    for_ahead, for_behind = _sum(ahead, gold), _sum(behind, gold)
    if for_behind > for_ahead:
        ahead, behind, for_ahead, for_behind = behind, ahead, for_behind, for_ahead
    if not _decided(for_ahead, for_behind, len(own), bool(behind)):
        return {CONFLICT: len(votes)}
    best = max(ahead, key=_credit) if len(ahead) > 1 else ahead[0]
    chosen = best.chosen
    same = [vote for vote in votes if vote.chosen == chosen]
    struck = {DUPLICATE: len(same) - 1, MINORITY: len(votes) - len(same)}
    others = [vote for vote in same if vote.id != best.id]
    ids = (best.feedback_id, *(vote.feedback_id for vote in others))
    told = {reason: count for reason, count in struck.items() if count}
    return Agreed(best, len(ahead), ids, told, tuple(vote.id for vote in others))


def _decided(ahead: float, behind: float, raters: int, disputed: bool) -> bool:
    if not disputed:
        return True
    if raters < 3:
        return False
    return ahead - behind >= MARGIN - _ROUNDING or ahead >= 2 * behind - _ROUNDING  # two thirds of all


def _sum(votes: Sequence[PairVote], gold: Mapping[str, float]) -> float:
    return sum([gold.get(vote.rater, 1.0) for vote in votes]) if gold else float(len(votes))


def _credit(vote: PairVote) -> tuple[float, bool, float, str]:
    return vote.weight, vote.trusted, -vote.judged_at, vote.id


def _rank(vote: PairVote) -> tuple[float, float, str]:
    return vote.weight, vote.judged_at, vote.id
