"""Settings of what becomes of feedback: how votes weigh, and what makes a pair."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from gateway.sections.section import Section
from gateway.sections.votes import MetricSettings, PairingSettings, TrustSettings


class IgnoredText(Section):
    """Text that two prompts may differ in and still be the same prompt."""

    role: Literal["system", "developer", "user", "assistant", "tool"] | None = None
    """In messages of this role; default: in all."""
    pattern: str = Field(min_length=1, max_length=500)
    """A regular expression (of the package `regex`; `.` matches line ends too). What it matches is not compared."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        import regex  # loaded by those alone who have a pattern

        try:
            regex.compile(value)
        except regex.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return value


TASK_PROMPTS = (
    "### Task:\nGenerate",
    "### Task:\nPredict",
    "### Task:\nSuggest 3-5",
    "### Task:\nAnalyze the chat history to determine",
    "### Task:\nYou are an autocompletion system",
)
"""How Open WebUI's calls for titles, tags, follow-ups, image prompts, searches and completions begin. Its answers from
documents begin with `### Task:` too, and are answers that people rate."""


class FeedbackSettings(Section):
    """From votes to pairs."""

    scope: Literal["project", "key"] = "project"
    """A key may rate the completions of its project, or (`key`) its own alone."""
    ignore: tuple[IgnoredText, ...] = ()
    """Parts of prompts left out when completions of the same prompt are looked for: a clock, retrieved documents."""
    task_prompts: tuple[str, ...] = TASK_PROMPTS
    """A call whose last user message begins like this is a chore of the client (titles, tags); it makes no pairs."""
    vote_token_seconds: PositiveFloat = 86400.0
    """How long a browser may vote with the token of a completion."""
    votes_per_minute_per_key: PositiveInt | None = None
    """Votes that are let in within a minute from one key, shared evenly among the gateway's workers."""
    votes_per_minute_per_rater: PositiveInt | None = None
    """The same for one rater."""
    votes_per_minute_per_address: PositiveInt | None = None
    """The same for one network address; leave it out where one server sends the votes of many people."""

    trust: TrustSettings = TrustSettings()
    pairing: PairingSettings = PairingSettings()
    metrics: tuple[MetricSettings, ...] = ()
    """What answers may be rated by besides `thumbs`; a rating by anything else is refused."""
    typo_distance: float = Field(default=0.02, ge=0, le=1)
    """A correction closer to the original than this (normalised edit distance) counts as a typo."""
    typo_weight: PositiveFloat = 0.3
    """Weight of a typo correction."""
    completion_wait_seconds: PositiveFloat = 2.0
    """A vote on a completion that is still being written waits this long for it."""

    @field_validator("metrics")
    @classmethod
    def _names_each_metric_once(cls, metrics: tuple[MetricSettings, ...]) -> tuple[MetricSettings, ...]:
        if len({metric.name for metric in metrics}) != len(metrics):
            raise ValueError("two [[feedback.metrics]] entries have the same name")
        return metrics
