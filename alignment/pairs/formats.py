"""The row shapes that preference pairs come in, told apart by their keys. Pure: one dictionary in, one pair out.

feedback   our own frozen data sets: a `FeedbackPair`
openai     `input` {messages, tools}, `preferred_output`, `non_preferred_output`
trl        `prompt`, `chosen`, `rejected`: text or messages; or `chosen` and `rejected` with a shared beginning
ms-swift   `messages` that end with the chosen answer, and `rejected_response` or `rejected_messages`
plain      `messages` (the prompt), `chosen`, `rejected`: text

Every shape may also hold `id`, `weight`, `tools`, `source` and `metadata`. Any other key is an error, not a guess.
"""

from collections.abc import Callable

from pydantic import ValidationError

from alignment.pairs.fields import (
    BadRow,
    Row,
    assistant_text,
    check_assistant,
    check_keys,
    first_problem,
    messages,
    only,
    prompt_messages,
    reply,
    tools,
    weight,
)
from alignment.pairs.pair import PreferencePair, from_feedback
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair

Sides = tuple[tuple[Message, ...], Message, Message]


def pair_of(row: Row, fallback_id: str) -> PreferencePair:
    """The pair in one row; `fallback_id` names it if the row has no `id`. Raises `BadRow`."""
    pair = _feedback(row) if "feedback_ids" in row else _imported(row, fallback_id)
    if pair.chosen.template_dict() == pair.rejected.template_dict():
        raise BadRow("chosen and rejected are identical, so the pair says nothing")
    return pair


def is_pair(row: Row) -> bool:
    """Whether the row has the keys of a pair, right or wrong."""
    return "feedback_ids" in row or any(keys <= row.keys() for keys, _ in _SHAPES)


def _feedback(row: Row) -> PreferencePair:
    try:
        return from_feedback(FeedbackPair.model_validate(row))
    except ValidationError as error:
        raise BadRow(first_problem(error)) from error


def _imported(row: Row, fallback_id: str) -> PreferencePair:
    required, read = _shape_of(row)
    check_keys(row, required)
    prompt, chosen, rejected = read(row)
    if not prompt:
        raise BadRow("the prompt is empty")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        check_assistant(side, name)
    given = row["input"].get("tools") if "input" in row else row.get("tools")
    return PreferencePair(
        str(row.get("id", fallback_id)), prompt, chosen, rejected, weight(row.get("weight", 1.0)), tools(given)
    )


def _shape_of(row: Row) -> tuple[frozenset[str], Callable[[Row], Sides]]:
    for keys, read in _SHAPES:
        if keys <= row.keys():
            return keys, read
    raise BadRow(
        f"no known shape of a preference pair has the keys {', '.join(sorted(map(str, row))) or '(none)'}; "
        "the plainest is prompt, chosen, rejected"
    )


def _openai(row: Row) -> Sides:
    given = row["input"]
    if not isinstance(given, dict) or "messages" not in given:
        raise BadRow("input must be an object with messages")
    if strangers := sorted(given.keys() - {"messages", "tools", "parallel_tool_calls"}):
        raise BadRow(f"unknown key {strangers[0]!r} in input")
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


_SHAPES: tuple[tuple[frozenset[str], Callable[[Row], Sides]], ...] = (
    (frozenset({"input", "preferred_output", "non_preferred_output"}), _openai),
    (frozenset({"messages", "rejected_response"}), _swift_response),
    (frozenset({"messages", "rejected_messages"}), _swift_messages),
    (frozenset({"messages", "chosen", "rejected"}), _plain),
    (frozenset({"prompt", "chosen", "rejected"}), _trl),
    (frozenset({"chosen", "rejected"}), _trl_implicit),
)
