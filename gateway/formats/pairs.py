"""The row shapes that preference pairs come in, told apart by their keys. Pure: one dictionary in, its pairs out.

alignway   our own export and frozen data sets: a `FeedbackPair`
openai     `input` {messages, tools}, `preferred_output`, `non_preferred_output`
trl        `prompt`, `chosen`, `rejected`: text or messages; `messages` (the prompt), `chosen`, `rejected`;
           or `chosen` and `rejected` with a shared beginning
ms-swift   `messages` that end with the chosen answer, and `rejected_response` or `rejected_messages`
openwebui  a rating out of Open WebUI's feedback export: as many pairs as the answer has siblings

Every shape may also hold the keys of `OPTIONAL_KEYS`. Any other key is an error, not a guess.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from pydantic import ValidationError

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair
from gateway.formats import openwebui
from gateway.formats.fields import (
    BadRow,
    Row,
    assistant_text,
    check_assistant,
    check_keys,
    first_problem,
    label,
    messages,
    only,
    prompt_messages,
    reply,
    tools,
    weight,
)
from gateway.formats.flaws import EXPLANATIONS, flaw_of_outputs, flaw_of_pair
from gateway.formats.record import RowPair

FormatName = Literal["openai", "trl", "ms-swift", "openwebui", "alignway"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
UNKNOWN = "unknown_format"
OWN_KEY = "feedback_ids"
"""Only rows of ours have it."""

Sides = tuple[tuple[Message, ...], Message, Message]


class Shape(NamedTuple):
    """The keys that a row of the shape has, and how to read it."""

    format: FormatName
    keys: frozenset[str]
    read: Callable[[Row], Sides]


def pairs_of(row: Row, format_: FormatName | None = None) -> list[RowPair]:
    """The pairs in one row: one, but for Open WebUI's, which may hold none or several. Raises `BadRow`.

    `format_`: what the row must be; None: whatever its keys say.
    """
    sniffed = format_of(row)
    if sniffed is None or format_ not in (None, sniffed):
        raise _unknown(row, format_)
    if sniffed == "openwebui":
        return [_checked(pair) for pair in openwebui.pairs_of(row)]
    return [_own(row)] if sniffed == "alignway" else [_imported(row)]


def format_of(row: Row) -> FormatName | None:
    """The format whose keys the row has, right or wrong; None if it has those of none."""
    if OWN_KEY in row:
        return "alignway"
    if row.keys() >= openwebui.KEYS:
        return "openwebui"
    return next((shape.format for shape in _SHAPES if shape.keys <= row.keys()), None)


def _own(row: Row) -> RowPair:
    try:
        pair = FeedbackPair.model_validate(row)
    except ValidationError as error:
        raise BadRow(first_problem(error)) from error
    if flaw := flaw_of_outputs(pair.chosen.message, pair.rejected.message):
        raise BadRow(EXPLANATIONS[flaw], flaw)
    return RowPair(
        prompt=pair.prompt,
        chosen=pair.chosen.message,
        rejected=pair.rejected.message,
        tools=pair.tools,
        weight=pair.weight,
        id=pair.id,
        source=pair.source,
        licence=pair.licence,
        basis=pair.basis,
        fact=pair.fact,
        origins=(pair.chosen.origin, pair.rejected.origin),
        judged_at=pair.judged_at,
    )


def _imported(row: Row) -> RowPair:
    shape = next(shape for shape in _SHAPES if shape.keys <= row.keys())
    check_keys(row, shape.keys)
    prompt, chosen, rejected = shape.read(row)
    if not prompt:
        raise BadRow("the prompt is empty")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        check_assistant(side, name)
    given = row["input"].get("tools") if "input" in row else row.get("tools")
    return _checked(
        RowPair(
            prompt=prompt,
            chosen=chosen,
            rejected=rejected,
            tools=tools(given),
            weight=weight(row.get("weight", 1.0)),
            id=None if row.get("id") is None else str(row["id"]),
            external_id=label(row, "external_id"),
            source=label(row, "source"),
            licence=label(row, "licence"),
        )
    )


def _checked(pair: RowPair) -> RowPair:
    if flaw := flaw_of_pair(pair):
        raise BadRow(EXPLANATIONS[flaw], flaw)
    return pair


def _unknown(row: Row, wanted: FormatName | None) -> BadRow:
    keys = ", ".join(sorted(map(str, row))) or "(none)"
    if wanted is not None:
        return BadRow(f"a row with the keys {keys} is not in the format {wanted}", UNKNOWN)
    return BadRow(
        f"no known shape of a preference pair has the keys {keys}; the plainest is prompt, chosen, rejected", UNKNOWN
    )


def _openai(row: Row) -> Sides:
    given = row["input"]
    if not isinstance(given, dict) or "messages" not in given:
        raise BadRow("input must be an object with messages")
    if strangers := sorted(given.keys() - {"messages", "tools", "parallel_tool_calls"}):
        raise BadRow(f"unknown key {strangers[0]!r} in input", "unknown_parameter")
    prompt = messages(given["messages"], "input.messages")
    chosen = only(messages(row["preferred_output"], "preferred_output"), "preferred_output")
    return prompt, chosen, only(messages(row["non_preferred_output"], "non_preferred_output"), "non_preferred_output")


def _trl(row: Row) -> Sides:
    prompt = prompt_messages(row["prompt"])
    return prompt, reply(row["chosen"], prompt, "chosen"), reply(row["rejected"], prompt, "rejected")


def _trl_implicit(row: Row) -> Sides:
    if isinstance(row["chosen"], str):
        raise BadRow("chosen is plain text, but there is no prompt or messages")
    prompt = messages(row["chosen"], "chosen")[:-1]
    return prompt, reply(row["chosen"], prompt, "chosen"), reply(row["rejected"], prompt, "rejected")


def _swift_response(row: Row) -> Sides:
    *prompt, chosen = messages(row["messages"], "messages")
    return tuple(prompt), chosen, assistant_text(row["rejected_response"], "rejected_response")


def _swift_messages(row: Row) -> Sides:
    *prompt, chosen = messages(row["messages"], "messages")
    return tuple(prompt), chosen, reply(row["rejected_messages"], tuple(prompt), "rejected_messages")


def _plain(row: Row) -> Sides:
    prompt = messages(row["messages"], "messages")
    return prompt, reply(row["chosen"], prompt, "chosen"), reply(row["rejected"], prompt, "rejected")


_SHAPES: tuple[Shape, ...] = (
    Shape("openai", frozenset({"input", "preferred_output", "non_preferred_output"}), _openai),
    Shape("ms-swift", frozenset({"messages", "rejected_response"}), _swift_response),
    Shape("ms-swift", frozenset({"messages", "rejected_messages"}), _swift_messages),
    Shape("trl", frozenset({"messages", "chosen", "rejected"}), _plain),
    Shape("trl", frozenset({"prompt", "chosen", "rejected"}), _trl),
    Shape("trl", frozenset({"chosen", "rejected"}), _trl_implicit),
)
