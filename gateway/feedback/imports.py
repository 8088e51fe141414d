"""Reads imported pairs row by row and says what is wrong with each. Pure."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.contracts.message import Message
from gateway.contracts.pair import Side
from gateway.contracts.prompt import normal_text, prompt_hash
from gateway.errors import InvalidRequest
from gateway.feedback.bodies import PairBatchBody, PairBody
from gateway.feedback.pairing import Candidate
from gateway.formats.fields import BadRow
from gateway.formats.pairs import FormatName, pairs_of
from gateway.formats.record import RowPair

LINES_IN_MESSAGE = 5
WEIGHT_MAX = 10.0
"""A row that asks for more is an error: one file could outweigh everything else."""


@dataclass(frozen=True)
class RowError:
    """What is wrong with one row; `line` counts from 1."""

    line: int
    code: str
    message: str

    @property
    def as_json(self) -> dict[str, Any]:
        """As clients see it."""
        return {"line": self.line, "code": self.code, "message": self.message}


class InvalidPairs(InvalidRequest):
    """Rows that cannot be imported; none was. `details` has one entry per bad row that is told of."""

    code, param = "invalid_pairs", "pairs"

    def __init__(self, errors: Sequence[RowError], rows: int, bad: int | None = None) -> None:
        """`bad`: how many rows are bad, where more are than `errors` tells of."""
        bad = len(errors) if bad is None else bad
        named = "; ".join(f"line {error.line}: {error.code} ({error.message})" for error in errors[:LINES_IN_MESSAGE])
        more = f"; and {bad - LINES_IN_MESSAGE} more" if bad > LINES_IN_MESSAGE else ""
        super().__init__(
            f"{bad} of {rows} rows are invalid, so none was imported. {named}{more}. Mend them, or leave them out "
            "with `on_error` = `skip`."
        )
        self.details = [error.as_json for error in errors]


@dataclass(frozen=True)
class Imported:
    """A pair that may be imported."""

    pair: RowPair
    prompt_hash: str
    content_hash: str

    def candidate(self, trust: float) -> Candidate:
        """The pair as it would be derived, its weight multiplied by how far imports are trusted."""
        chosen, rejected = self.pair.origins
        return Candidate(
            Side(message=self.pair.chosen, origin=chosen),
            Side(message=self.pair.rejected, origin=rejected),
            self.pair.weight * trust,
            fact=self.pair.fact,
        )


@dataclass(frozen=True)
class ReadRows:
    """The pairs of a body, and the rows left out of it."""

    imported: tuple[Imported, ...]
    errors: tuple[RowError, ...] = ()


def read_rows(body: PairBody | PairBatchBody) -> ReadRows:
    """The rows of a body. Raises `InvalidRequest` for one pair, `InvalidPairs` for a batch, unless it skips errors."""
    if isinstance(body, PairBody):
        try:
            return ReadRows(tuple(imported_of(body.row, body.named_format)))
        except BadRow as error:
            message = f"This pair cannot be imported: {error.message}."
            raise InvalidRequest(message, code=error.code) from error
    imported: list[Imported] = []
    errors: list[RowError] = []
    for line, raw in enumerate(body.pairs, start=1):
        try:
            imported += imported_of(raw, body.named_format)
        except BadRow as error:
            errors.append(RowError(line, error.code, error.message))
    if errors and body.on_error == "stop":
        raise InvalidPairs(errors, len(body.pairs))
    return ReadRows(tuple(imported), tuple(errors))


def imported_of(raw: Any, format_: FormatName | None) -> list[Imported]:
    """The pairs of a row as JSON gave it; none of a rating that compares nothing. Raises `BadRow`."""
    if isinstance(raw, BadRow):
        raise raw
    if not isinstance(raw, dict):
        raise BadRow(f"expected an object, found {type(raw).__name__}")
    return [_imported(pair) for pair in pairs_of(raw, format_)]


def _imported(pair: RowPair) -> Imported:
    if pair.weight > WEIGHT_MAX:
        raise BadRow(f"weight is {pair.weight:g}; an imported pair weighs at most {WEIGHT_MAX:g}")
    if any(_holds_nul(message) for message in (*pair.prompt, pair.chosen, pair.rejected)):
        raise BadRow("a text holds a NUL character (\\u0000), which cannot be stored")
    try:
        prompt = prompt_hash(pair.prompt, pair.tools)
        return Imported(pair, prompt, _content_hash(prompt, pair.chosen, pair.rejected))
    except UnicodeEncodeError as error:
        raise BadRow("a text holds half a surrogate pair, which is no character") from error


def _holds_nul(message: Message) -> bool:
    if isinstance(message.content, str) and message.tool_calls is None:
        return "\0" in message.content or "\0" in (message.reasoning or "")
    return "\\u0000" in message.model_dump_json()


def _content_hash(prompt: str, chosen: Message, rejected: Message) -> str:
    content = [prompt, *([normal_text(side.text), side.tool_calls] for side in (chosen, rejected))]
    encoded = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(encoded).hexdigest()
