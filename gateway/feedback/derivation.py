"""The pairs that a stored vote makes, given what its rater said of the same prompt before.

A thumb up and a thumb down on answers to one prompt make a pair once the second of them comes; it belongs to the second
and names both. Every pair of a rater and prompt is derived under a lock on these two, so that of two votes that come at
once one sees the other.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import PAIR, mint
from gateway.errors import AlignwayError
from gateway.feedback.bodies import ChoiceRef
from gateway.feedback.completions import LoggedChoice
from gateway.feedback.hygiene import flaw_of_comparison
from gateway.feedback.metrics import OPPOSITE
from gateway.feedback.pairing import Candidate, Judgement, pair_of, weight_of, within_limit
from gateway.feedback.standing import NO_TRAINING, state_of
from gateway.feedback.targets import load_logged
from gateway.feedback.vote import Rules, Vote
from gateway.storage import pairs as pair_rows
from gateway.storage import ratings
from gateway.storage.feedback_tables import Feedback, PairRow
from gateway.storage.raters import Standing

Derived = tuple[tuple[str, ...], Candidate]
"""The votes that a pair follows from, and the pair."""


def lock_name(project_id: str, prompt_hash: str | None, rater_hash: str, rules: Rules) -> str:
    """What is locked while a vote's pairs change: the rater and the prompt, or all raters of it."""
    return f"{project_id}:{prompt_hash}:{'' if rules.settings.pairing.across_raters else rater_hash}"


async def derive_pairs(
    session: AsyncSession, feedback: Feedback, vote: Vote, rules: Rules, standing: Standing
) -> list[PairRow]:
    """Store the pairs of a vote and return them, those that a rule struck out included."""
    derived: list[Derived] = [((feedback.id,), candidate) for candidate in vote.candidates]
    if vote.rated is not None:
        derived = await _pairs_of_rating(session, feedback, vote, vote.rated, rules)
    if vote.is_limited and derived:
        taken = await ratings.count_limited_pairs(session, feedback)
        limit = rules.settings.pairing.pairs_per_prompt
        candidates = within_limit([candidate for _, candidate in derived], taken=taken, limit=limit)
        derived = [(votes, candidate) for (votes, _), candidate in zip(derived, candidates, strict=True)]
    return await _stored(session, feedback, vote, derived, standing)


async def retire_pairs(session: AsyncSession, feedback: Feedback, reason: str, *, but_not: str) -> None:
    """Take the pairs of a vote out of training, and those that other ratings made together with it."""
    await pair_rows.exclude_pairs(session, feedback.id, reason, but_not=but_not)
    if feedback.type == "rating":
        for row in await ratings.pairs_that_lean_on(session, feedback):
            row.state, row.reason = "excluded", reason
        await session.flush()


async def _pairs_of_rating(
    session: AsyncSession, feedback: Feedback, vote: Vote, rated: LoggedChoice, rules: Rules
) -> list[Derived]:
    if vote.leaning is None:
        return []
    pairing = rules.settings.pairing
    others = await ratings.ratings_that_lean(
        session,
        feedback,
        OPPOSITE[vote.leaning],
        across_raters=pairing.across_raters,
        limit=pairing.pairs_per_prompt,
    )
    derived: list[Derived] = []
    for other in others:
        choice = await _choice_of(session, other, rules)
        if choice is not None:
            up, down = (rated, choice) if vote.leaning == "up" else (choice, rated)
            weight = _weight(vote, other, rules)
            flaw = flaw_of_comparison(up, down, rules.strangers)
            derived.append(((feedback.id, other.id), Candidate(up.side, down.side, weight, flaw)))
    return derived


def _weight(vote: Vote, other: Feedback, rules: Rules) -> float:
    trust = rules.settings.trust
    own = other.rater_hash == vote.rater.id_hash
    return weight_of(trust.ratings if own else trust.ratings_across_raters, vote.rater, trust)


async def _choice_of(session: AsyncSession, rating: Feedback, rules: Rules) -> LoggedChoice | None:
    """What a stored rating is about; None if that was deleted."""
    ref = ChoiceRef.model_validate(rating.body["target"])
    try:
        return (await load_logged(session, rating.project_id, (ref,), rules.settings))[0]
    except AlignwayError:
        return None


async def _stored(
    session: AsyncSession, feedback: Feedback, vote: Vote, derived: Sequence[Derived], standing: Standing
) -> list[PairRow]:
    judgement = judgement_of(feedback.id, feedback.project_id, feedback.updated_at, vote)
    ids = sorted(mint(PAIR) for _ in derived)  # so that their order by id is the order of derivation
    stored = []
    for pair_id, (votes, candidate) in zip(ids, derived, strict=True):
        if not standing.may_train:
            candidate = replace(candidate, reason=candidate.reason or NO_TRAINING)
        pair = pair_of(replace(judgement, feedback_ids=votes), candidate, pair_id)
        stored.append(await pair_rows.add_pair(session, pair, vote.alias, *state_of(candidate, standing)))
    return stored


def judgement_of(feedback_id: str, project_id: str, at: float, vote: Vote) -> Judgement:
    """What all pairs of a vote have in common."""
    return Judgement(
        feedback_ids=(feedback_id,),
        project_id=project_id,
        messages=vote.messages,
        tools=vote.tools,
        prompt_hash=vote.prompt_hash,
        rater=vote.rater,
        judged_at=datetime.fromtimestamp(at, UTC),
        basis=vote.basis,
        source=vote.source,
        licence=vote.licence,
    )
