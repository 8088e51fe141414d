"""Keeps keys out of logs: whatever looks like one is blotted out, wherever it stands in an event."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

BLOT = "[redacted]"
SECRET_FIELDS = frozenset(
    {
        "admin_key",
        "api_key",
        "apikey",
        "authorization",
        "cookie",
        "password",
        "proxy_authorization",
        "secret",
        "x_api_key",
    }
)
"""Fields whose value is a secret whatever it looks like."""
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20)[^\s,;\"'<>]+"), rf"\1 {BLOT}"),
    (re.compile(r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]+"), f"sk-{BLOT}"),
    (re.compile(r"(://[^\s:/@]*):[^\s/]+@"), rf"\1:{BLOT}@"),
)


def redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """A structlog processor, for the end of the chain: everything is plain data or text after it."""
    return {redacted(str(name)): _field(str(name), value) for name, value in event.items()}


def redacted(text: str) -> str:
    """The text without keys, bearer tokens and passwords in addresses."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def _field(name: str, value: Any) -> Any:
    if name.lower().replace("-", "_") in SECRET_FIELDS and value:
        return BLOT
    return _plain(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {redacted(str(name)): _field(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes | bytearray):
        return redacted(bytes(value).decode("utf-8", "replace"))
    return redacted(str(value))  # whatever it is, its text is what would be written
