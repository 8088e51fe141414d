"""Reads imported pairs row by row and says what is wrong with each. Pure."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gateway.contracts.message import Message
from gateway.contracts.pair import Side
from gateway.contracts.prompt import normal_text, prompt_hash
from gateway.errors import InvalidRequest
from gateway.feedback.bodies import ImportedRow, PairBatchBody, PairBody, explain
from gateway.feedback.hygiene import flaw_of_outputs
from gateway.feedback.pairing import Candidate

LINES_IN_MESSAGE = 5

_EXPLANATIONS = {
    "prompt_ends_with_assistant": "the prompt ends with an assistant message; it must end with what is answered",
    "multi_turn_output": "an output has several messages; give one assistant message for each side",
    "output_not_by_assistant": "an output must have the role `assistant`",
    "tool_calls_without_tools": "an output calls a tool, but `input.tools` declares none",
    "empty_output": "one of the outputs is empty",
    "identical_outputs": "the outputs are equal, so nothing is preferred",
}


@dataclass(frozen=True)
class RowError:
    """What is wrong with one row; `line` counts from 1."""

    line: int
    code: str
    message: str


class InvalidPairs(InvalidRequest):
    """Rows of a batch that cannot be imported; none was. `details` has one entry per bad row."""

    code, param = "invalid_pairs", "pairs"

    def __init__(self, errors: Sequence[RowError], rows: int) -> None:
        named = "; ".join(f"line {error.line}: {error.code} ({error.message})" for error in errors[:LINES_IN_MESSAGE])
        more = f"; and {len(errors) - LINES_IN_MESSAGE} more" if len(errors) > LINES_IN_MESSAGE else ""
        super().__init__(f"{len(errors)} of {rows} pairs are invalid, so none was imported. {named}{more}.")
        self.details = [{"line": error.line, "code": error.code, "message": error.message} for error in errors]


@dataclass(frozen=True)
class Imported:
    """A row that may be imported."""

    row: ImportedRow
    prompt_hash: str
    content_hash: str
    candidate: Candidate


def read_rows(body: PairBody | PairBatchBody, *, weight: float) -> list[Imported]:
    """The rows of a body, all or none: raises `InvalidRequest` for one pair, `InvalidPairs` for a batch."""
    if isinstance(body, PairBody):
        if flaw := flaw_of_row(body.row):
            raise InvalidRequest(f"This pair cannot be imported: {_EXPLANATIONS[flaw]}.", code=flaw)
        return [_imported(body.row, weight)]
    rows = [_read_row(line, raw) for line, raw in enumerate(body.pairs, start=1)]
    if errors := [row for row in rows if isinstance(row, RowError)]:
        raise InvalidPairs(errors, len(rows))
    return [_imported(row, weight) for row in rows if isinstance(row, ImportedRow)]


def flaw_of_row(row: ImportedRow) -> str | None:
    """The code of the first rule that a row breaks."""
    outputs = row.preferred_output + row.non_preferred_output
    if row.input.messages[-1].role == "assistant":
        return "prompt_ends_with_assistant"
    if len(outputs) != 2:
        return "multi_turn_output"
    if any(output.role != "assistant" for output in outputs):
        return "output_not_by_assistant"
    if any(output.tool_calls for output in outputs) and not row.input.tools:
        return "tool_calls_without_tools"
    return flaw_of_outputs(*outputs)


def _read_row(line: int, raw: Any) -> ImportedRow | RowError:
    try:
        row = ImportedRow.model_validate(raw)
    except ValidationError as error:
        place, reason, code = explain(error)
        return RowError(line, code, f"{place}: {reason}" if place else reason)
    flaw = flaw_of_row(row)
    return RowError(line, flaw, _EXPLANATIONS[flaw]) if flaw else row


def _imported(row: ImportedRow, weight: float) -> Imported:
    prompt = prompt_hash(row.input.messages, row.input.tools)
    chosen, rejected = row.preferred_output[0], row.non_preferred_output[0]
    candidate = Candidate(Side(message=chosen, origin="import"), Side(message=rejected, origin="import"), weight)
    return Imported(row, prompt, _content_hash(prompt, chosen, rejected), candidate)


def _content_hash(prompt: str, chosen: Message, rejected: Message) -> str:
    content = [prompt, *([normal_text(side.text), side.tool_calls] for side in (chosen, rejected))]
    encoded = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(encoded).hexdigest()
