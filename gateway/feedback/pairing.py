"""From a vote to candidate pairs: which completion is chosen over which, how much that weighs, what rules it out. Pure.

A candidate that a rule strikes out is kept with its reason, so that a voter and a dataset card can see what became
of a vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from gateway.contracts.message import Message
from gateway.contracts.pair import Basis, FeedbackPair, Rater, Side
from gateway.feedback.completions import LoggedChoice
from gateway.feedback.edits import edit_share, touches_fact
from gateway.feedback.hygiene import IDENTITY_LEAK, Strangers, flaw_of_comparison, flaw_of_ending
from gateway.formats.flaws import flaw_of_outputs
from gateway.settings import FeedbackSettings, TrustSettings

PAIR_LIMIT = "pair_limit"
REVIEW = "review"
SUPERSEDED = "superseded"
RETRACTED = "retracted"

FIX_FACT = "fix_fact"
CLEARLY = 2
"""From this strength on, the best of a ranking is also set against the second."""
State = Literal["eligible", "held", "excluded"]


@dataclass(frozen=True)
class Candidate:
    """A pair that a vote would make; `reason` names the rule that strikes it out, if one does."""

    chosen: Side
    rejected: Side
    weight: float
    reason: str | None = None
    fact: bool = False

    @property
    def state(self) -> State:
        """Whether it may train; held: not until somebody has looked at it."""
        if self.reason is None:
            return "eligible"
        return "held" if self.reason == REVIEW else "excluded"


@dataclass(frozen=True)
class Judgement:
    """What all pairs of one vote have in common."""

    feedback_ids: tuple[str, ...]
    project_id: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    prompt_hash: str
    rater: Rater
    judged_at: datetime
    basis: Basis = "preference"
    source: str | None = None
    licence: str | None = None


def pair_of(judgement: Judgement, candidate: Candidate, pair_id: str) -> FeedbackPair:
    """The record of a candidate."""
    return FeedbackPair(
        id=pair_id,
        project_id=judgement.project_id,
        prompt=judgement.messages,
        tools=judgement.tools,
        prompt_hash=judgement.prompt_hash,
        chosen=candidate.chosen,
        rejected=candidate.rejected,
        weight=candidate.weight,
        basis=judgement.basis,
        fact=candidate.fact,
        source=judgement.source,
        licence=judgement.licence,
        rater=judgement.rater,
        feedback_ids=judgement.feedback_ids,
        judged_at=judgement.judged_at,
    )


def basis_of(basis: Basis, rater: Rater) -> Basis:
    """What a pair follows from: whatever a model judges is its verdict."""
    return "judge" if rater.kind == "judge" else basis


def weight_of(weight: float, rater: Rater, trust: TrustSettings) -> float:
    """What a vote weighs: that of its kind, but a judge's own for whatever a model judges."""
    return trust.judge if rater.kind == "judge" else weight


def candidates_of_preference(
    chosen: LoggedChoice, rejected: Sequence[LoggedChoice], *, weight: float, strangers: Strangers
) -> tuple[Candidate, ...]:
    """The chosen side against each rejected one."""
    return tuple(
        Candidate(chosen.side, other.side, weight, flaw_of_comparison(chosen, other, strangers)) for other in rejected
    )


def candidates_of_ranking(
    ranking: Sequence[Sequence[LoggedChoice]], *, strength: int | None, weight: float, strangers: Strangers
) -> tuple[Candidate, ...]:
    """The best against the worst, and against the second where it is clearly better; never two that are tied.

    Of choices that share a place, the first two that no rule strikes out stand for it.
    """
    if len(ranking) < 2:
        return ()
    rivals = [ranking[-1]]
    if len(ranking) > 2 and (strength or 1) >= CLEARLY:
        rivals.append(ranking[1])
    return tuple(_representative(ranking[0], rival, weight, strangers) for rival in rivals)


def _representative(
    better: Sequence[LoggedChoice], worse: Sequence[LoggedChoice], weight: float, strangers: Strangers
) -> Candidate:
    pairs = [(one, other) for one in better for other in worse]
    candidates = [
        Candidate(one.side, other.side, weight, flaw_of_comparison(one, other, strangers)) for one, other in pairs
    ]
    return next((candidate for candidate in candidates if candidate.reason is None), candidates[0])


def candidate_of_correction(
    original: LoggedChoice,
    edited: Message,
    *,
    edit_kind: str | None,
    settings: FeedbackSettings,
    strangers: Strangers,
    review_draw: float,
) -> Candidate:
    """The edited answer against the original.

    A fact weighs in full however short the edit is; another short edit is a typo and weighs little. Of those that
    leave nearly nothing of the original, a share is held for review: `review_draw` is a number from 0 to 1 drawn for
    this one. An original that was cut off at its token limit is fair game here: a person finished or shortened it.
    """
    before, after = original.side.message.text, edited.text
    share = edit_share(before, after)
    fact = edit_kind == FIX_FACT or touches_fact(before, after, settings.pairing.fact_names)
    typo = not fact and share < settings.typo_distance
    reason = flaw_of_ending(original) or flaw_of_outputs(edited, original.side.message)
    if reason is None and strangers.speak_in(after):
        reason = IDENTITY_LEAK
    if reason is None and share > settings.pairing.rewrite_distance and review_draw < settings.pairing.review_share:
        reason = REVIEW
    weight = settings.typo_weight if typo else settings.trust.correction
    return Candidate(Side(message=edited, origin="human"), original.side, weight, reason, fact)


def within_limit(candidates: Sequence[Candidate], *, taken: int, limit: int) -> tuple[Candidate, ...]:
    """The candidates, those over the limit struck out: `taken` pairs of this rater and prompt there are already."""
    limited, count = [], taken
    for candidate in candidates:
        if candidate.reason is None:
            count += 1
            if count > limit:
                candidate = replace(candidate, reason=PAIR_LIMIT)
        limited.append(candidate)
    return tuple(limited)
