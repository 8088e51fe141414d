"""From a vote to candidate pairs: which completion is chosen over which, how much that weighs, what rules it out. Pure.

A candidate that a rule strikes out is kept with its reason, so that a voter and a dataset card can see what became
of a vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.contracts.message import Message
from gateway.contracts.pair import Basis, FeedbackPair, Rater, Side
from gateway.feedback.completions import LoggedChoice
from gateway.feedback.edits import is_typo
from gateway.formats.flaws import flaw_of_outputs

TRUNCATED = "truncated_output"
FILTERED = "filtered_output"
FAILED = "failed_completion"
TASK = "task_call"
PAIR_LIMIT = "pair_limit"
SUPERSEDED = "superseded"
RETRACTED = "retracted"

PAIRS_PER_VOTE = 3
"""A vote for one of many choices makes at most so many pairs, or its prompt would outweigh the others."""
FIX_FACT = "fix_fact"


@dataclass(frozen=True)
class Candidate:
    """A pair that a vote would make; `reason` names the rule that strikes it out, if one does."""

    chosen: Side
    rejected: Side
    weight: float
    reason: str | None = None
    fact: bool = False


@dataclass(frozen=True)
class Judgement:
    """What all pairs of one vote have in common."""

    feedback_id: str
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
        feedback_ids=(judgement.feedback_id,),
        judged_at=judgement.judged_at,
    )


def candidates_of_preference(
    chosen: LoggedChoice, rejected: Sequence[LoggedChoice], *, weight: float
) -> tuple[Candidate, ...]:
    """The chosen side against each rejected one; of those that no rule strikes out, the first three count."""
    candidates, eligible = [], 0
    for other in rejected:
        candidate = Candidate(chosen.side, other.side, weight, _flaw_of_preference(chosen, other))
        if candidate.reason is None:
            eligible += 1
        if eligible > PAIRS_PER_VOTE:
            candidate = replace(candidate, reason=candidate.reason or PAIR_LIMIT)
        candidates.append(candidate)
    return tuple(candidates)


def candidate_of_correction(
    original: LoggedChoice,
    edited: Message,
    *,
    edit_kind: str | None,
    weight: float,
    typo_distance: float,
    typo_weight: float,
) -> Candidate:
    """The edited answer against the original. A typo weighs little, unless it touches a fact.

    An original that was cut off at its token limit is fair game here: a person finished or shortened it.
    """
    typo = edit_kind != FIX_FACT and is_typo(original.side.message.text, edited.text, below=typo_distance)
    chosen = Side(message=edited, origin="human")
    reason = _flaw_of_ending(original) or flaw_of_outputs(chosen.message, original.side.message)
    return Candidate(chosen, original.side, typo_weight if typo else weight, reason)


def _flaw_of_preference(chosen: LoggedChoice, rejected: LoggedChoice) -> str | None:
    if flaw := _flaw_of_ending(chosen) or _flaw_of_ending(rejected):
        return flaw
    if (chosen.finish_reason == "length") != (rejected.finish_reason == "length"):
        return TRUNCATED
    return flaw_of_outputs(chosen.side.message, rejected.side.message)


def _flaw_of_ending(choice: LoggedChoice) -> str | None:
    if choice.prompt.is_task:
        return TASK
    if choice.status != "finished":
        return FAILED
    return FILTERED if choice.finish_reason == "content_filter" else None
