"""A question of the operator's own that every candidate must answer, and whether an answer passes. Pure."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.contracts.message import Message

MATCH_SECONDS = 1.0
Phrase = Annotated[str, Field(min_length=1, max_length=2000)]
Phrases = Annotated[tuple[Phrase, ...], Field(max_length=32)]


class CaseBody(BaseModel):
    """What is asked, and what must be in the answer. Upper and lower case are one in phrases, not in patterns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: tuple[Message, ...] = Field(min_length=1, max_length=100)
    must_contain: Phrases = ()
    must_not_contain: Phrases = ()
    must_match: Phrases = ()
    """Regular expressions of the package `regex`, found anywhere in the answer; `.` matches line ends too."""
    severity: Literal["block", "warn"] = "block"

    @field_validator("must_match")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        import regex  # loaded by those alone who have a case

        for pattern in patterns:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"no regular expression: {error}") from error
        return patterns

    @model_validator(mode="after")
    def _asks_for_something(self) -> "CaseBody":
        if not (self.must_contain or self.must_not_contain or self.must_match):
            raise ValueError("a case needs must_contain, must_not_contain or must_match")
        if self.prompt[-1].role not in ("user", "tool"):
            raise ValueError("the last message of a case's prompt is what is asked: its role is user or tool")
        return self


class Case(CaseBody):
    """A case that is kept, under its id."""

    id: str


def failures_of(case: CaseBody, answer: str) -> list[str]:
    """What is wrong with an answer; empty if it passes."""
    return list(_failures(case, answer))


def _failures(case: CaseBody, answer: str) -> Iterator[str]:
    import regex

    folded = answer.casefold()
    for phrase in case.must_contain:
        if phrase.casefold() not in folded:
            yield f"lacks {phrase!r}"
    for phrase in case.must_not_contain:
        if phrase.casefold() in folded:
            yield f"contains {phrase!r}"
    for pattern in case.must_match:
        try:
            if regex.search(pattern, answer, regex.DOTALL, timeout=MATCH_SECONDS) is None:
                yield f"does not match {pattern!r}"
        except TimeoutError:
            yield f"{pattern!r} took more than {MATCH_SECONDS:g} s to match"
