"""A second look at a chat request that did not fit its types: either it fits once what asks for nothing is left out,
or here is why not. Off the hot path: a request that fits at once never comes here. Pure.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire.chat_decisions import CHOICES, FIELDS, KINDS, MESSAGE_FIELDS, REFUSED
from gateway.wire.chat_fields import ChatBody
from gateway.wire.json_body import (
    MAX_SHOWN,
    invalid_value,
    json_text,
    malformed,
    missing_parameter,
    parse_json,
    spelt,
    unknown_parameter,
    unsupported_parameter,
)

EXPECTED = {
    "int": "a whole number", "float": "a number", "str": "a string", "bool": "a boolean (`true` or `false`)",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip
BOUNDS = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}
UNITS = {"str": "characters", "array": "items", "object": "entries"}
NAME_RULE = "must be 1 to 64 letters, digits, `_` or `-`"

NULL = b"null"
MAX_SEARCHED = 1024
ENTRY_TYPES = {field.name: field.type for field in msgspec.structs.fields(ChatBody)}

PLACE = re.compile(r"\.(\w+)|\[(\d+)\]|(\[\.\.\.\])")
WRONG_TYPE = re.compile(r"Expected `([^`]*)`(?:, got `(\w+)`)?$")
OUT_OF_BOUNDS = re.compile(r"Expected `(\w+)` (of length )?(>=|<=|>|<) (\S+)$")
FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`$", re.DOTALL)


def second_look(body: bytes, surface: SurfaceSettings) -> ChatBody:
    """The request without what asks for nothing. Raises `InvalidRequest` that names the parameter."""
    asked = b""
    try:
        asked = msgspec.json.encode(_without_neutral(_fields(body), surface))
        return msgspec.json.decode(asked, type=ChatBody)
    except msgspec.ValidationError as error:
        raise _explained(str(error), asked) from error
    except (ValueError, RecursionError) as error:
        raise malformed(error) from error


def _fields(body: bytes) -> dict[str, Raw]:
    """The fields of the body, each as it was written: looking into all of them would cost more than it is worth."""
    try:
        return msgspec.json.decode(body, type=dict[str, Raw])
    except msgspec.ValidationError as error:
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json") from error


def _without_neutral(fields: Mapping[str, Raw], surface: SurfaceSettings) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for name, raw in fields.items():
        value = bytes(raw)
        if value == NULL:
            continue
        decision = FIELDS.get(name)
        if decision is not None and decision.kind == REFUSED:
            if not _is_neutral(value, decision.neutral):
                raise unsupported_parameter(name, decision.note)
        elif name not in ChatBody.__struct_fields__:
            raise unknown_parameter(name[:MAX_SHOWN])
        else:
            asked[name] = raw
    if isinstance(messages := _list(asked.get("messages")), list):
        if len(messages) > surface.max_messages:
            raise invalid_value("messages", f"must hold at most {surface.max_messages} messages")
        asked["messages"] = [_without_nulls(message) for message in messages]
    return asked


def _is_neutral(value: bytes, neutral: tuple[Any, ...]) -> bool:
    return len(value) < MAX_SHOWN and parse_json(value) in neutral


def _without_nulls(message: Raw) -> Any:
    """A message, and the calls in it, as SDKs dump them: a field that is `null` was never set."""
    try:
        fields = msgspec.json.decode(message, type=dict[str, Raw])
    except msgspec.ValidationError:
        return message
    kept: dict[str, Any] = {name: raw for name, raw in fields.items() if bytes(raw) != NULL}
    if isinstance(calls := _list(kept.get("tool_calls")), list):
        kept["tool_calls"] = [_without_nulls(call) for call in calls]
    if "function" in kept:
        kept["function"] = _without_nulls(kept["function"])
    return kept


def _list(raw: Raw | None) -> list[Raw] | Raw | None:
    """The items of a list; what is none is left for the types to refuse."""
    try:
        return None if raw is None else msgspec.json.decode(raw, type=list[Raw])
    except msgspec.ValidationError:
        return raw


def _explained(message: str, asked: bytes) -> InvalidRequest:
    """What msgspec found, in words of JSON."""
    # Our own path comes last, whatever a client's text holds; only a missing field at the top has none.
    what, _, where = message.rpartition(" - at ") if " - at " in message else (message, "", "`$`")
    of_key = where.startswith("`key` in ")
    path = where.removeprefix("`key` in ").strip("`").removeprefix("$")
    param = path.removesuffix("[...]").removeprefix(".")
    if path.endswith("[...]"):
        param = _entry(param, asked)
    if field := FIELD.fullmatch(what):
        inner = f"{param}.{field[2][:MAX_SHOWN]}".removeprefix(".")
        return missing_parameter(inner) if field[1] == "missing required" else unknown_parameter(inner)
    if what.startswith("Invalid"):
        return _not_a_choice(param, path, asked)
    if "matching regex" in what:
        return invalid_value(param, NAME_RULE)
    subject = f"A key of `{param}`" if of_key else f"`{param}`"
    if bound := OUT_OF_BOUNDS.fullmatch(what):
        return InvalidRequest(f"{subject} must be {_bounded(*bound.groups())}.", param=param, code="invalid_value")
    if wrong := WRONG_TYPE.fullmatch(what):
        return _of_wrong_type(subject, param, wrong[1], None if of_key else wrong[2])
    return InvalidRequest(f"{subject}: {what[:MAX_SHOWN]}.", param=param, code="invalid_value")


def _entry(param: str, asked: bytes) -> str:
    """Which entry of an object it was; msgspec does not say."""
    entries = parse_json(asked)[param]
    for key in entries if len(entries) <= MAX_SEARCHED else ():
        try:
            msgspec.convert({key: entries[key]}, ENTRY_TYPES[param], str_keys=True)
        except msgspec.ValidationError:
            return spelt([param, key])
    return param


def _bounded(kind: str, of_length: str | None, comparison: str, bound: str) -> str:
    expected = EXPECTED.get(kind, kind)
    if of_length:
        unit = UNITS.get(kind, "characters")
        return f"{expected} {BOUNDS[comparison]} {bound} {unit.removesuffix('s') if bound == '1' else unit}"
    return f"{expected} {BOUNDS[comparison]} {bound.removesuffix('.0')}"


def _of_wrong_type(subject: str, param: str, expected: str, got: str | None) -> InvalidRequest:
    refused = MESSAGE_FIELDS.get(f"assistant.{param.rpartition('.')[2]}") if expected == "null" else None
    if refused is not None:
        return unsupported_parameter(param, refused.note)
    kinds = [EXPECTED.get(kind, kind) for kind in expected.split(" | ") if kind != "null" or expected == "null"]
    told = f"{', '.join(kinds[:-1])} or {kinds[-1]}" if len(kinds) > 1 else kinds[0]
    but = "" if got is None else f", not {EXPECTED.get(got, got).partition(' (')[0]}"
    return InvalidRequest(f"{subject} must be {told}{but}.", param=param, code="invalid_type")


def _not_a_choice(param: str, path: str, asked: bytes) -> InvalidRequest:
    """A role, a type or a word that is none of those taken here."""
    value, names = parse_json(asked), []
    for name, index, _ in PLACE.findall(path):
        value = value[name or int(index)]
        names += [name] if name else []
    field = f"{names[-2]}.type" if names[-1] == "type" and len(names) > 1 else names[-1]
    if refused := KINDS.get(f"{field.removesuffix('.type')}:{value}"):
        return unsupported_parameter(param, f"{json_text(value)}: {refused.note}")
    choices = CHOICES.get(field, "one of those documented")
    return invalid_value(param, f"must be {choices}, not {json_text(value)}")
