"""A vote whose targets are known: what will be stored of it, and the pairs it would make. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.contracts.message import Message
from gateway.contracts.pair import Rater
from gateway.feedback.bodies import CorrectionBody, PreferenceBody
from gateway.feedback.completions import LoggedChoice, require_one_prompt
from gateway.feedback.identity import key_of_targets
from gateway.feedback.pairing import Candidate, candidate_of_correction, candidates_of_preference
from gateway.settings import FeedbackSettings


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

    @property
    def target(self) -> dict[str, Any]:
        """What the vote is about, as the reply names it."""
        return {"prompt_hash": self.prompt_hash, "alias": self.alias, "release_ids": list(self.release_ids)}


def preference_vote(
    body: PreferenceBody, rater: Rater, choices: Sequence[LoggedChoice], settings: FeedbackSettings
) -> Vote:
    """A vote between choices of one prompt. Raises `PromptMismatch` if they answer different ones."""
    require_one_prompt(choices)
    candidates: tuple[Candidate, ...] = ()
    if body.verdict == "prefer":
        candidates = candidates_of_preference(choices[0], choices[1:], weight=settings.trust.preference)
    return _vote_on_choices(body, rater, choices, candidates)


def correction_vote(
    body: CorrectionBody, rater: Rater, choices: Sequence[LoggedChoice], settings: FeedbackSettings
) -> Vote:
    """A rewritten answer."""
    candidate = candidate_of_correction(
        choices[0],
        Message(role="assistant", content=body.message.content),
        edit_kind=body.edit_kind,
        weight=settings.trust.correction,
        typo_distance=settings.typo_distance,
        typo_weight=settings.typo_weight,
    )
    return _vote_on_choices(body, rater, choices, (candidate,))


def _vote_on_choices(
    body: PreferenceBody | CorrectionBody,
    rater: Rater,
    choices: Sequence[LoggedChoice],
    candidates: tuple[Candidate, ...],
) -> Vote:
    first = choices[0]
    return Vote(
        type=body.type,
        natural_key=key_of_targets(rater, body.type, body.targets),
        body=_stored_body(body),
        alias=first.alias,
        rater=rater,
        messages=first.prompt.messages,
        tools=first.prompt.tools,
        prompt_hash=first.prompt.hash,
        release_ids=tuple(choice.side.release_id for choice in choices if choice.side.release_id),
        candidates=candidates,
    )


def _stored_body(body: PreferenceBody | CorrectionBody) -> dict[str, Any]:
    """What is kept of a body: never the rater's name."""
    return body.model_dump(mode="json", exclude_none=True, exclude={"rater"})
