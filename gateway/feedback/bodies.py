"""What a client may send to `POST /v1/feedback`: one model per type, unknown fields refused. Knows no database."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    model_validator,
)

from gateway.contracts.pair import RaterKind
from gateway.errors import InvalidRequest
from gateway.formats.pairs import FormatName
from gateway.wire.json_body import spelt

CHOICES_MAX = 16
BATCH_MAX = 100
Tag = Annotated[str, Field(min_length=1, max_length=64)]
Label = Annotated[str, Field(min_length=1, max_length=256)]


class Part(BaseModel):
    """A part of a body."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rater(Part):
    """Who judged, on behalf of whom the key speaks. The id is never stored, only a keyed hash of it."""

    id: Label
    kind: RaterKind = "end_user"


class ChoiceRef(Part):
    """One choice of a completion."""

    completion_id: Label
    index: int = Field(default=0, ge=0, lt=1024)


class Body(Part):
    """What every type of feedback may carry."""

    rater: Rater | None = None
    tags: tuple[Tag, ...] = Field(default=(), max_length=16)
    comment: str | None = Field(default=None, max_length=4000)
    metadata: dict[
        Annotated[str, Field(min_length=1, max_length=64)],
        Annotated[str, Field(max_length=512)],
    ] = Field(default={}, max_length=16)
    external_id: Label | None = None


class PreferenceBody(Body):
    """One choice is better than others of the same prompt, or none of two is."""

    type: Literal["preference"]
    verdict: Literal["prefer", "tie", "both_bad"] = "prefer"
    chosen: ChoiceRef | None = None
    rejected: tuple[ChoiceRef, ...] = Field(default=(), max_length=CHOICES_MAX)
    choices: tuple[ChoiceRef, ...] = Field(default=(), max_length=2)
    """The two choices of a `tie` or `both_bad`."""
    shown: tuple[Literal["chosen", "rejected"], ...] | None = Field(default=None, max_length=CHOICES_MAX + 1)
    """The order in which the rater saw them; left out where unknown."""
    strength: int | None = Field(default=None, ge=1, le=3)
    """1 slightly, 2 clearly, 3 much better."""

    @model_validator(mode="after")
    def _fits_verdict(self) -> "PreferenceBody":
        if self.verdict == "prefer":
            if self.chosen is None or not self.rejected:
                raise ValueError("verdict `prefer` needs `chosen` and at least one `rejected`")
            if self.choices:
                raise ValueError("`choices` goes with the verdicts `tie` and `both_bad`; use `chosen` and `rejected`")
        elif len(self.choices) != 2 or self.chosen or self.rejected or self.shown or self.strength:
            raise ValueError(f"verdict `{self.verdict}` takes exactly two `choices`, and neither sides nor strength")
        return self

    @model_validator(mode="after")
    def _names_each_choice_once(self) -> "PreferenceBody":
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("the same choice is named twice; a choice can be compared only with others")
        if self.shown is not None and sorted(self.shown) != ["chosen"] + ["rejected"] * len(self.rejected):
            raise ValueError("`shown` lists `chosen` once and `rejected` once for each rejected choice")
        return self

    @property
    def targets(self) -> tuple[ChoiceRef, ...]:
        """Every choice the vote is about, the chosen one first."""
        return ((self.chosen,) if self.chosen else ()) + self.rejected + self.choices


class RankingBody(Body):
    """Choices of one prompt in order, the best first; those of an inner list are a tie."""

    type: Literal["ranking"]
    ranking: tuple[Annotated[tuple[ChoiceRef, ...], Field(min_length=1)], ...] = Field(
        min_length=1, max_length=CHOICES_MAX
    )
    strength: int | None = Field(default=None, ge=1, le=3)
    """How much better the best one is: 1 slightly, 2 clearly, 3 much."""

    @model_validator(mode="after")
    def _orders_different_choices(self) -> "RankingBody":
        if not 2 <= len(self.targets) <= CHOICES_MAX:
            raise ValueError(f"`ranking` orders 2 to {CHOICES_MAX} choices")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("the same choice is named twice; a choice has one place in a ranking")
        return self

    @property
    def targets(self) -> tuple[ChoiceRef, ...]:
        """Every choice, the best first."""
        return tuple(ref for tie in self.ranking for ref in tie)


class Scale(Part):
    """The range of a scaled rating, as its metric declares it."""

    min: FiniteFloat
    max: FiniteFloat


class RatingBody(Body):
    """How good one choice is, by a metric that the settings declare."""

    type: Literal["rating"]
    target: ChoiceRef
    name: Label
    value: StrictBool | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)]
    scale: Scale | None = None
    """May be left out; where it is given it must be the metric's own."""

    @property
    def targets(self) -> tuple[ChoiceRef, ...]:
        """The choice that was rated."""
        return (self.target,)


class CorrectedMessage(Part):
    """The answer as it should have been."""

    role: Literal["assistant"] = "assistant"
    content: str = Field(min_length=1, max_length=200_000)


class CorrectionBody(Body):
    """A person rewrote an answer."""

    type: Literal["correction"]
    target: ChoiceRef
    message: CorrectedMessage
    edit_kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] | None = None
    """What the edit did, such as `style`; `fix_fact` weighs in full however short the edit is."""

    @property
    def targets(self) -> tuple[ChoiceRef, ...]:
        """The choice that was rewritten."""
        return (self.target,)


class ImportBody(Body):
    """What is said of imported pairs, be it one or a batch."""

    type: Literal["pair"]
    source: Label
    """Where the pairs come from, such as `crm-2026-10`."""
    licence: Label
    """Under which licence they may be used."""
    alias: Label | None = None
    """Which alias they may train; default: the only one of the project."""
    format: FormatName | Literal["auto"] = "auto"
    """The shape of the rows; `auto`: whatever their keys say."""
    on_error: Literal["stop", "skip"] = "stop"
    """Whether a bad row stops all, or is left out and told of."""

    @property
    def named_format(self) -> FormatName | None:
        """The format, where it is named."""
        return None if self.format == "auto" else self.format

    @property
    def said(self) -> dict[str, Any]:
        """What the body says beside its pairs that is kept with each of them."""
        kept = {"tags", "comment", "metadata"}
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True, include=kept)


class PairBody(ImportBody):
    """One imported pair; `gateway/formats` reads the row."""

    row: dict[str, Any]


class PairBatchBody(ImportBody):
    """Up to 100 imported rows; `gateway/formats` reads them, to report on each."""

    pairs: tuple[Any, ...] = Field(min_length=1, max_length=BATCH_MAX)


BodyOnChoices = PreferenceBody | RankingBody | RatingBody | CorrectionBody
"""The types that are about completions of ours."""
AnyBody = BodyOnChoices | PairBody | PairBatchBody
_BODIES: Mapping[str, type[AnyBody]] = {
    "preference": PreferenceBody,
    "ranking": RankingBody,
    "rating": RatingBody,
    "correction": CorrectionBody,
    "pair": PairBody,
}


def parse_body(raw: object) -> AnyBody:
    """The body behind decoded JSON. Raises `InvalidRequest` with the place and the reason."""
    if not isinstance(raw, dict):
        raise InvalidRequest("The body must be a JSON object with a `type`.", code="invalid_json")
    supported = ", ".join(f"`{name}`" for name in _BODIES)
    if not isinstance(name := raw.get("type"), str):
        raise InvalidRequest(f"The field `type` is missing; it is one of {supported}.", param="type")
    if name not in _BODIES:
        raise InvalidRequest(
            f"Feedback of type {name[:64]!r} is not supported; the types are {supported}.",
            param="type",
            code="unsupported_type",
        )
    model = PairBatchBody if name == "pair" and "pairs" in raw else _BODIES[name]
    if model is PairBody:
        raw = _with_row_apart(raw)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        param, reason, code = explain(error)
        raise InvalidRequest(f"`{param or name}`: {reason}.", param=param, code=code) from error


def _with_row_apart(raw: dict[str, Any]) -> dict[str, Any]:
    """One pair stands among the fields of its body; whatever is none of these belongs to the row."""
    head = {name: value for name, value in raw.items() if name in ImportBody.model_fields}
    row = {name: value for name, value in raw.items() if name not in ImportBody.model_fields}
    return head | {"row": row | ({"external_id": raw["external_id"]} if "external_id" in raw else {})}


def parse_annotations(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What is noted beside a vote, checked; only the fields that were given. Raises `InvalidRequest`."""
    given = {name: value for name, value in raw.items() if value is not None}
    try:
        checked = Body.model_validate(given).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        param, reason, code = explain(error)
        raise InvalidRequest(f"`{param}`: {reason}.", param=param, code=code) from error
    return dict.fromkeys(raw) | checked


_BRANCHES = {"str", "bool", "int", "float"}
"""What pydantic names in the path of a union; the client never wrote it."""


def explain(error: ValidationError) -> tuple[str | None, str, str]:
    """The innermost mistake: its place, as `chosen.index`; what is wrong there; and a code."""
    innermost = max(error.errors(include_url=False, include_context=False), key=lambda detail: len(detail["loc"]))
    place = spelt([part for part in innermost["loc"] if part not in _BRANCHES and "[" not in str(part)]) or None
    if innermost["type"] == "missing":
        return place, "this field is missing", "missing_required_parameter"
    if innermost["type"] == "extra_forbidden":
        return place, "this field is not taken here; leave it out", "unknown_parameter"
    return place, innermost["msg"].removeprefix("Value error, "), "invalid_value"
