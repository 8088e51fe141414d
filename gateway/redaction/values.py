"""Redacts messages and other JSON: text, content parts, and what tools are called with. Pure."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.redaction.text import Redactor

_NO_TEXT = frozenset({"id", "type", "role", "tool_call_id", "data", "file_data", "file_id", "format", "detail"})
"""Fields of a message that hold no words of anybody."""
MAX_NUMBER_CHARACTERS = 40


def redact_value(value: Any, redactor: Redactor) -> Any:
    """The same JSON with its strings redacted; a number that is a phone number or the like becomes a placeholder.

    Names of fields stay, and so do ids, roles and attached files.
    """
    if isinstance(value, str):
        return value if value.startswith("data:") else redactor.redact(value)
    if isinstance(value, dict):
        return {key: _redact_field(key, item, redactor) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(item, redactor) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return _redact_number(value, redactor)
    return value


def texts_of(value: Any) -> Iterator[str]:
    """Every string in JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for item in value.values() for text in texts_of(item))
    elif isinstance(value, list | tuple):
        yield from (text for item in value for text in texts_of(item))


def reserve_all(values: Iterable[Any], redactor: Redactor) -> None:
    """Tell a redactor of the placeholders that stand in JSON already."""
    for value in values:
        for text in texts_of(value):
            redactor.reserve(text)


def _redact_field(name: str, value: Any, redactor: Redactor) -> Any:
    if name == "arguments" and isinstance(value, str):
        return _redact_arguments(value, redactor)
    if name in _NO_TEXT and isinstance(value, str):
        return value
    return redact_value(value, redactor)


def _redact_arguments(arguments: str, redactor: Redactor) -> str:
    """What a tool is called with: JSON in a string, which stays JSON; unchanged to the letter if nothing is found."""
    try:
        read = json.loads(arguments)
        redacted = _redact_all(read, redactor)
    except (ValueError, RecursionError):
        return redactor.redact(arguments)
    return arguments if redacted == read else json.dumps(redacted, ensure_ascii=False)


def _redact_all(value: Any, redactor: Redactor) -> Any:
    """As `redact_value`, but any field may hold words: these are the tool's own names."""
    if isinstance(value, dict):
        return {key: _redact_all(item, redactor) for key, item in value.items()}
    if isinstance(value, list):
        return [_redact_all(item, redactor) for item in value]
    return redact_value(value, redactor)


def _redact_number(number: int, redactor: Redactor) -> int | str:
    if number >= 10**MAX_NUMBER_CHARACTERS:
        return number
    shown = str(number)
    redacted = redactor.redact(shown)
    return number if redacted == shown else redacted
