"""What serving hands to training: for one prompt, somebody preferred one completion to another."""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PositiveFloat

from gateway.contracts.message import Message

Origin = Literal["model", "human", "import"]
RaterKind = Literal["end_user", "annotator", "judge", "code"]
Basis = Literal["preference", "ranking", "correction", "ratings", "import", "judge"]
"""What a pair follows from: a vote between completions, the ends of a ranking, an edit, thumbs up against thumbs down,
another system's pair, or a model's verdict."""


class Side(BaseModel):
    """One of the two completions of a pair, and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    message: Message
    origin: Origin
    completion_id: str | None = None
    index: int | None = Field(default=None, ge=0)
    """Which choice of the completion."""
    release_id: str | None = None
    """The release that wrote it, where a model did."""


class Rater(BaseModel):
    """Who judged: never a name, only a keyed hash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id_hash: str
    kind: RaterKind
    trusted: bool = False
    """The key voted in its own name and may name raters: no cap binds it."""


class FeedbackPair(BaseModel):
    """For one prompt, somebody preferred `chosen` to `rejected`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    id: str
    project_id: str
    prompt: tuple[Message, ...] = Field(min_length=1)
    tools: tuple[dict[str, Any], ...] = ()
    prompt_hash: str
    chosen: Side
    rejected: Side
    weight: PositiveFloat
    """Trust in the vote (`gateway/feedback/pairing.py`); a data set multiplies it by recency and more."""
    basis: Basis = "preference"
    fact: bool = False
    """A correction that touches a number, unit, negation or listed name: it weighs in full and never ages."""
    source: str | None = None
    """Where an imported pair comes from."""
    licence: str | None = None
    """Under which licence an imported pair may be used."""
    rater: Rater
    feedback_ids: tuple[str, ...] = Field(min_length=1)
    judged_at: AwareDatetime
    """A time without its zone is refused."""
