"""When are two prompts the same? A canonical hash over messages, tools and response format."""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any

from gateway.contracts.message import Message

_NOTHING = (None, None, None)


def prompt_hash(
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] | None = None,
    response_format: dict[str, Any] | None = None,
) -> str:
    """`ph_` and 32 hex digits, equal for prompts that differ only in Unicode form or trailing white space of lines."""
    encoded = _plain(messages) if not tools and not response_format else None
    if encoded is None:
        encoded = _encoded(messages, tools, response_format)
    return "ph_" + hashlib.sha256(encoded.encode()).hexdigest()[:32]


def _encoded(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None, response_format: dict[str, Any] | None
) -> str:
    canonical = {
        "messages": [_canonical(message.model_dump(exclude_none=True, exclude={"reasoning"})) for message in messages],
        "tools": _canonical(list(tools or [])),
        "response_format": _canonical(response_format or {}),
    }
    return json.dumps(canonical, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _plain(messages: Sequence[Message]) -> str | None:
    """What `_encoded` makes of messages that are nothing but a role and a text, as most are, in a third of the time."""
    parts = []
    for message in messages:
        content = message.content
        if not isinstance(content, str) or (message.name, message.tool_calls, message.tool_call_id) != _NOTHING:
            return None
        parts.append(f'{{"content":{encode_basestring(normal_text(content))},"role":"{message.role}"}}')
    return f'{{"messages":[{",".join(parts)}],"response_format":{{}},"tools":[]}}'


def first_difference(left: Sequence[Message], right: Sequence[Message]) -> str | None:
    """Where two prompts part, in words for an error message; None if their messages are the same."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one.role != other.role:
            return f"message {index}: role {one.role!r} against {other.role!r}"
        a, b = normal_text(one.text), normal_text(other.text)
        if a != b:
            position = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            return f"message {index} ({one.role}), character {position}"
        if one.model_dump() != other.model_dump():
            return f"message {index} ({one.role}), outside its text"
    if len(left) != len(right):
        return f"message {min(len(left), len(right))}: one prompt has {len(left)} messages, the other {len(right)}"
    return None


def normal_text(text: str) -> str:
    """NFC, `\\n` line ends, no white space at the end of a line or of the text."""
    text = unicodedata.normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join([line.rstrip() for line in text.split("\n")]).rstrip()


def _canonical(value: Any) -> Any:
    if isinstance(value, str):
        return normal_text(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value
