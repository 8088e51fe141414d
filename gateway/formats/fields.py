"""What rows of every shape are made of: messages, text, weights, tools. Pure; a bad part says what is wrong."""

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from gateway.contracts.message import Message

Row = dict[str, Any]

OPTIONAL_KEYS = frozenset({"id", "external_id", "weight", "tools", "source", "licence", "metadata"})
"""Every shape may hold these beside its own keys; any other is an error, not a guess."""
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
MULTI_TURN, NOT_BY_ASSISTANT = "multi_turn_output", "output_not_by_assistant"


class BadRow(ValueError):
    """One row that cannot be trained on; the text is the reason, `code` its name for programs."""

    def __init__(self, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.message, self.code = message, code


def check_keys(row: Row, required: frozenset[str]) -> None:
    """Raise `BadRow` at a key that the shape does not know."""
    if strangers := sorted(row.keys() - required - OPTIONAL_KEYS):
        raise BadRow(
            f"unknown key {strangers[0]!r}; besides {', '.join(sorted(required))} a row may hold "
            f"{', '.join(sorted(OPTIONAL_KEYS))}",
            "unknown_parameter",
        )


def prompt_messages(value: Any) -> tuple[Message, ...]:
    """A prompt: text, which is one user message, or messages. Raises `BadRow` if there is nothing in it."""
    if isinstance(value, str):
        if not value.strip():
            raise BadRow("the prompt is empty")
        return (Message(role="user", content=value),)
    return messages(value, "prompt")


def reply(value: Any, prompt: Sequence[Message], name: str) -> Message:
    """One completion: text, one message in a list, or a whole conversation that begins with the prompt."""
    if isinstance(value, str):
        return assistant_text(value, name)
    found = messages(value, name)
    if len(found) > 1 and found[:-1] == tuple(prompt):
        return found[-1]
    if len(found) > 1:
        raise BadRow(f"{name} holds {len(found)} messages that do not begin with the prompt of the row", MULTI_TURN)
    return only(found, name)


def assistant_text(value: Any, name: str) -> Message:
    """The assistant's message with that text."""
    if not isinstance(value, str):
        raise BadRow(f"{name} must be text")
    return _thought_apart(Message(role="assistant", content=value))


def messages(value: Any, name: str) -> tuple[Message, ...]:
    """At least one message."""
    if not isinstance(value, list | tuple) or not value:
        raise BadRow(f"{name} must be a list of at least one message")
    try:
        return tuple(_thought_apart(Message.model_validate(_own_names(item))) for item in value)
    except ValidationError as error:
        raise BadRow(f"{name}: {first_problem(error)}") from error


def only(found: tuple[Message, ...], name: str) -> Message:
    """The one message there must be."""
    if len(found) != 1:
        raise BadRow(f"{name} must be exactly one message, found {len(found)}", MULTI_TURN)
    return found[0]


def check_assistant(message: Message, name: str) -> None:
    """Raise `BadRow` if somebody else said it."""
    if message.role != "assistant":
        raise BadRow(f"{name} must be an assistant message, found role {message.role!r}", NOT_BY_ASSISTANT)


def weight(value: Any) -> float:
    """A finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise BadRow(f"weight must be a number above 0, found {value!r}")
    return float(value)


def label(row: Row, name: str) -> str | None:
    """A short text such as `source`, if the row has it: 1 to 256 characters."""
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= 256:
        raise BadRow(f"{name} must be text of 1 to 256 characters")
    return value


def tools(value: Any) -> tuple[dict[str, Any], ...]:
    """Declarations of tools: a list of objects, or JSON text of one, as table formats keep it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRow("tools is text, but no JSON") from error
    if value is not None and not (isinstance(value, list) and all(isinstance(tool, dict) for tool in value)):
        raise BadRow("tools must be a list of objects")
    return tuple(value or ())


def first_problem(error: ValidationError) -> str:
    """Place and text of the first thing that is wrong."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])


def _own_names(item: Any) -> Any:
    """`reasoning_content`, as most servers and files call it, is `reasoning` here."""
    if not isinstance(item, dict) or "reasoning_content" not in item:
        return item
    renamed = {name: value for name, value in item.items() if name != "reasoning_content"}
    return {"reasoning": item["reasoning_content"], **renamed}


def _thought_apart(message: Message) -> Message:
    """A thought that stands before the answer in its text goes where thoughts belong."""
    if message.role != "assistant" or not isinstance(message.content, str):
        return message
    thought = _THOUGHT.match(message.content)
    if thought is None:
        return message
    answer = message.content[thought.end() :]
    reasoning = message.reasoning or thought.group(1).strip() or None
    return message.model_copy(update={"content": answer, "reasoning": reasoning})
