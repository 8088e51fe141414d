"""A vote whose targets are known: what will be stored of it, and the pairs it would make. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.contracts.message import Message
from gateway.contracts.pair import Basis, Rater
from gateway.feedback.bodies import (
    BodyOnChoices,
    ChoiceRef,
    CorrectionBody,
    PreferenceBody,
    RankingBody,
    RatingBody,
)
from gateway.feedback.completions import LoggedChoice, require_one_prompt
from gateway.feedback.hygiene import Strangers
from gateway.feedback.identity import key_of_targets
from gateway.feedback.metrics import Leaning, leaning_of, metric_of
from gateway.feedback.pairing import (
    Candidate,
    basis_of,
    candidate_of_correction,
    candidates_of_preference,
    candidates_of_ranking,
    weight_of,
)
from gateway.settings import FeedbackSettings


@dataclass(frozen=True)
class Rules:
    """What votes are judged by."""

    settings: FeedbackSettings
    strangers: Strangers


@dataclass(frozen=True)
class Vote:
    """One judgement by one rater about one prompt."""

    type: str
    natural_key: str
    body: dict[str, Any]
    alias: str
    rater: Rater
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    prompt_hash: str
    release_ids: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    basis: Basis
    source: str | None = None
    licence: str | None = None
    rated: LoggedChoice | None = None
    """The choice that a rating is about, where ratings by its metric may form pairs."""
    leaning: Leaning | None = None
    """What a rating comes down to."""

    @property
    def target(self) -> dict[str, Any]:
        """What the vote is about, as the reply names it."""
        return {"prompt_hash": self.prompt_hash, "alias": self.alias, "release_ids": list(self.release_ids)}

    @property
    def is_limited(self) -> bool:
        """Whether its pairs count among those that one rater may make of one prompt."""
        return self.type in ("preference", "ranking", "rating")


def natural_key_of(body: BodyOnChoices, rater: Rater) -> str:
    """What makes another vote the same record as this one."""
    name = body.name if isinstance(body, RatingBody) else None
    return key_of_targets(rater, body.type, body.targets, name)


def vote_on_choices(
    body: BodyOnChoices, rater: Rater, choices: Sequence[LoggedChoice], rules: Rules, review_draw: float
) -> Vote:
    """A vote on choices of one prompt. Raises `InvalidRequest`: they answer different ones, or a metric is unknown."""
    require_one_prompt(choices)
    if isinstance(body, RatingBody):
        return _rating_vote(body, rater, choices, rules)
    trust = rules.settings.trust
    if isinstance(body, CorrectionBody):
        candidate = _correction(body, choices[0], rules, review_draw)
        candidate = replace(candidate, weight=weight_of(candidate.weight, rater, trust))
        return _vote(body, rater, choices, (candidate,), basis_of("correction", rater))
    if isinstance(body, RankingBody):
        candidates = _ranking(body, choices, rules, weight_of(trust.ranking, rater, trust))
        return _vote(body, rater, choices, candidates, basis_of("ranking", rater))
    candidates = _preference(body, choices, rules, weight_of(trust.preference, rater, trust))
    return _vote(body, rater, choices, candidates, basis_of("preference", rater))


def _preference(
    body: PreferenceBody, choices: Sequence[LoggedChoice], rules: Rules, weight: float
) -> tuple[Candidate, ...]:
    if body.verdict != "prefer":
        return ()
    return candidates_of_preference(choices[0], choices[1:], weight=weight, strangers=rules.strangers)


def _ranking(body: RankingBody, choices: Sequence[LoggedChoice], rules: Rules, weight: float) -> tuple[Candidate, ...]:
    by_ref: Mapping[ChoiceRef, LoggedChoice] = dict(zip(body.targets, choices, strict=True))
    ranking = [[by_ref[ref] for ref in tie] for tie in body.ranking]
    return candidates_of_ranking(ranking, strength=body.strength, weight=weight, strangers=rules.strangers)


def _correction(body: CorrectionBody, original: LoggedChoice, rules: Rules, review_draw: float) -> Candidate:
    return candidate_of_correction(
        original,
        Message(role="assistant", content=body.message.content),
        edit_kind=body.edit_kind,
        settings=rules.settings,
        strangers=rules.strangers,
        review_draw=review_draw,
    )


def _rating_vote(body: RatingBody, rater: Rater, choices: Sequence[LoggedChoice], rules: Rules) -> Vote:
    metric = metric_of(body, rules.settings)
    leaning = leaning_of(metric, body.value)
    rated = choices[0] if metric.pairs else None
    return _vote(body, rater, choices, (), basis_of("ratings", rater), rated, leaning)


def _vote(
    body: BodyOnChoices,
    rater: Rater,
    choices: Sequence[LoggedChoice],
    candidates: tuple[Candidate, ...],
    basis: Basis,
    rated: LoggedChoice | None = None,
    leaning: Leaning | None = None,
) -> Vote:
    first = choices[0]
    return Vote(
        type=body.type,
        natural_key=natural_key_of(body, rater),
        body=_stored_body(body),
        alias=first.alias,
        rater=rater,
        messages=first.prompt.messages,
        tools=first.prompt.tools,
        prompt_hash=first.prompt.hash,
        release_ids=tuple(choice.side.release_id for choice in choices if choice.side.release_id),
        candidates=candidates,
        basis=basis,
        rated=rated,
        leaning=leaning,
    )


def _stored_body(body: BodyOnChoices) -> dict[str, Any]:
    """What is kept of a body: never the rater's name."""
    return body.model_dump(mode="json", exclude_none=True, exclude={"rater"})
