"""The row shapes that preference data comes in, told apart by their keys. Pure: one dictionary in, one pair out.

feedback   our own frozen data sets: a `FeedbackPair`
openai     `input` {messages, tools}, `preferred_output`, `non_preferred_output`
trl        `prompt`, `chosen`, `rejected`: text or messages; or `chosen` and `rejected` with a shared beginning
ms-swift   `messages` that end with the chosen answer, and `rejected_response` or `rejected_messages`
plain      `messages` (the prompt), `chosen`, `rejected`: text

Every shape may also hold `id`, `weight`, `tools`, `source` and `metadata`. Any other key is an error, not a guess.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from alignment.pairs.pair import PreferencePair, from_feedback
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair

Row = dict[str, Any]
Sides = tuple[tuple[Message, ...], Message, Message]

_OPTIONAL_KEYS = frozenset({"id", "weight", "tools", "source", "metadata"})


class BadRow(ValueError):
    """One row that is not a pair; the text is the reason."""


def pair_of(row: Any, fallback_id: str) -> PreferencePair:
    """The pair in one row; `fallback_id` names it if the row has no `id`. Raises `BadRow`."""
    if not isinstance(row, dict):
        raise BadRow(f"expected an object, found {type(row).__name__}")
    pair = _feedback(row) if "feedback_ids" in row else _imported(row, fallback_id)
    if pair.chosen.template_dict() == pair.rejected.template_dict():
        raise BadRow("chosen and rejected are identical, so the pair says nothing")
    return pair


def _feedback(row: Row) -> PreferencePair:
    try:
        return from_feedback(FeedbackPair.model_validate(row))
    except ValidationError as error:
        raise BadRow(_first_problem(error)) from error


def _imported(row: Row, fallback_id: str) -> PreferencePair:
    required, read = _shape_of(row)
    if strangers := sorted(row.keys() - required - _OPTIONAL_KEYS):
        raise BadRow(
            f"unknown key {strangers[0]!r}; besides {', '.join(sorted(required))} a row may hold "
            f"{', '.join(sorted(_OPTIONAL_KEYS))}"
        )
    prompt, chosen, rejected = read(row)
    if not prompt:
        raise BadRow("the prompt is empty")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side.role != "assistant":
            raise BadRow(f"{name} must be an assistant message, found role {side.role!r}")
    return PreferencePair(
        str(row.get("id", fallback_id)), prompt, chosen, rejected, _weight(row.get("weight", 1.0)), _tools(row)
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
    prompt = _messages(given["messages"], "input.messages")
    chosen = _only(_messages(row["preferred_output"], "preferred_output"), "preferred_output")
    return prompt, chosen, _only(_messages(row["non_preferred_output"], "non_preferred_output"), "non_preferred_output")


def _trl(row: Row) -> Sides:
    prompt = _prompt(row["prompt"])
    return prompt, _reply(row["chosen"], prompt, "chosen"), _reply(row["rejected"], prompt, "rejected")


def _trl_implicit(row: Row) -> Sides:
    if isinstance(row["chosen"], str):
        raise BadRow("chosen is plain text, but there is no prompt or messages")
    prompt = _messages(row["chosen"], "chosen")[:-1]
    return prompt, _reply(row["chosen"], prompt, "chosen"), _reply(row["rejected"], prompt, "rejected")


def _swift_response(row: Row) -> Sides:
    *prompt, chosen = _messages(row["messages"], "messages")
    return tuple(prompt), chosen, _assistant(row["rejected_response"], "rejected_response")


def _swift_messages(row: Row) -> Sides:
    *prompt, chosen = _messages(row["messages"], "messages")
    return tuple(prompt), chosen, _reply(row["rejected_messages"], tuple(prompt), "rejected_messages")


def _plain(row: Row) -> Sides:
    prompt = _messages(row["messages"], "messages")
    return prompt, _reply(row["chosen"], prompt, "chosen"), _reply(row["rejected"], prompt, "rejected")


_SHAPES: tuple[tuple[frozenset[str], Callable[[Row], Sides]], ...] = (
    (frozenset({"input", "preferred_output", "non_preferred_output"}), _openai),
    (frozenset({"messages", "rejected_response"}), _swift_response),
    (frozenset({"messages", "rejected_messages"}), _swift_messages),
    (frozenset({"messages", "chosen", "rejected"}), _plain),
    (frozenset({"prompt", "chosen", "rejected"}), _trl),
    (frozenset({"chosen", "rejected"}), _trl_implicit),
)


def _prompt(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message(role="user", content=value),) if value.strip() else ()
    return _messages(value, "prompt")


def _reply(value: Any, prompt: Sequence[Message], name: str) -> Message:
    """One completion: text, one message in a list, or a whole conversation that begins with the prompt."""
    if isinstance(value, str):
        return _assistant(value, name)
    messages = _messages(value, name)
    if len(messages) > 1 and messages[:-1] == tuple(prompt):
        return messages[-1]
    if len(messages) > 1:
        raise BadRow(f"{name} holds {len(messages)} messages that do not begin with the prompt of the pair")
    return _only(messages, name)


def _assistant(value: Any, name: str) -> Message:
    if not isinstance(value, str):
        raise BadRow(f"{name} must be text")
    return Message(role="assistant", content=value)


def _messages(value: Any, name: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise BadRow(f"{name} must be a list of at least one message")
    try:
        return tuple(Message.model_validate(item) for item in value)
    except ValidationError as error:
        raise BadRow(f"{name}: {_first_problem(error)}") from error


def _only(messages: tuple[Message, ...], name: str) -> Message:
    if len(messages) != 1:
        raise BadRow(f"{name} must be exactly one message, found {len(messages)}")
    return messages[0]


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise BadRow(f"weight must be a number above 0, found {value!r}")
    return float(value)


def _tools(row: Row) -> tuple[dict[str, Any], ...]:
    given = row["input"].get("tools") if "input" in row else row.get("tools")
    if given is not None and not (isinstance(given, list) and all(isinstance(tool, dict) for tool in given)):
        raise BadRow("tools must be a list of objects")
    return tuple(given or ())


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
