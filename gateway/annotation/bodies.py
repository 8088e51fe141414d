"""What annotators and operators may send to the annotation routes; unknown fields are refused."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.feedback.bodies import ChoiceRef, Label, Tag

Seen = Literal["left", "right"]
Verdict = Literal["left", "right", "tie", "both_bad", "skip", "discard", "guideline_unclear"]


class Part(BaseModel):
    """A part of a body."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _can_be_stored(self) -> "Part":
        if any(isinstance(value, str) and "\0" in value for value in self.__dict__.values()):
            raise ValueError("NUL characters (\\u0000) cannot be stored")
        return self


class Annotator(Part):
    """Who judges, on behalf of whom the key speaks. The id is never stored, only a keyed hash of it."""

    id: Label


class AnnotatorBody(Part):
    """What every annotation route takes."""

    rater: Annotator | None = None
    """Default: the key itself."""


class ClaimBody(AnnotatorBody):
    """`POST /v1/annotation/claim`."""

    alias: Label | None = None
    """Only answers of this alias."""


class CorrectionPart(Part):
    """One of the two answers as it should have been."""

    side: Seen
    content: str = Field(min_length=1, max_length=200_000)
    edit_kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] | None = None


class SubmitBody(AnnotatorBody):
    """`POST /v1/annotation/tasks/{id}/submit`."""

    verdict: Verdict
    tags: tuple[Tag, ...] = Field(default=(), max_length=16)
    comment: str | None = Field(default=None, max_length=4000)
    strength: int | None = Field(default=None, ge=1, le=3)
    correction: CorrectionPart | None = None

    @model_validator(mode="after")
    def _fits_verdict(self) -> "SubmitBody":
        if self.strength is not None and self.verdict not in ("left", "right"):
            raise ValueError("`strength` goes with the verdicts `left` and `right`")
        if any("\0" in tag for tag in self.tags):
            raise ValueError("NUL characters (\\u0000) cannot be stored")
        if self.verdict == "skip" and (self.correction or self.comment or self.tags):
            raise ValueError("a skipped task takes no tags, comment or correction; use another verdict")
        return self


class GoldBody(Part):
    """`POST /admin/v1/annotation/gold`: two answers to one prompt of which one is known to be better."""

    better: ChoiceRef
    worse: ChoiceRef
    note: str = Field(default="", max_length=1000)
    """Why, for other operators."""
