"""A second look at a chat request that did not fit its types: either it fits once what asks for nothing is left out,
or here is why not. Off the hot path: a request that fits at once never comes here. Pure.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire.chat_decisions import CHOICES, FIELDS, KINDS, MESSAGE_FIELDS, REFUSED
from gateway.wire.chat_fields import ChatBody
from gateway.wire.json_body import (
    MAX_SHOWN,
    invalid_value,
    is_deeper,
    json_text,
    missing_parameter,
    parse_json,
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

PLACE = re.compile(r"\.(\w+)|\[(\d+)\]|(\[\.\.\.\])")
WRONG_TYPE = re.compile(r"Expected `([^`]*)`(?:, got `(\w+)`)?$")
OUT_OF_BOUNDS = re.compile(r"Expected `(\w+)` (of length )?(>=|<=|>|<) (\S+)$")
FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`$", re.DOTALL)


def second_look(body: bytes, surface: SurfaceSettings) -> ChatBody:
    """The request without what asks for nothing. Raises `InvalidRequest` that names the parameter."""
    fields = parse_json(body)
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    if is_deeper(fields, surface.max_json_depth):
        raise InvalidRequest(
            f"The body is nested more than {surface.max_json_depth} levels deep; send it flatter.", code="invalid_value"
        )
    asked = _without_neutral(fields)
    try:
        return msgspec.json.decode(msgspec.json.encode(asked), type=ChatBody)
    except msgspec.ValidationError as error:
        raise _explained(str(error), asked) from error


def _without_neutral(fields: Mapping[str, Any]) -> dict[str, Any]:
    asked = {}
    for name, value in fields.items():
        decision = FIELDS.get(name)
        if value is None:
            continue
        if decision is not None and decision.kind == REFUSED:
            # `is` besides `==`: to Python, `true` equals 1
            if not any(value == harmless and type(value) is type(harmless) for harmless in decision.neutral):
                raise unsupported_parameter(name, decision.note)
        elif name not in ChatBody.__struct_fields__:
            raise unknown_parameter(name[:MAX_SHOWN])
        else:
            asked[name] = value
    messages = asked.get("messages")
    if isinstance(messages, list):
        asked["messages"] = [_without_nulls(message) for message in messages]
    return asked


def _without_nulls(message: Any) -> Any:
    """A message, and the calls in it, as SDKs dump them: a field that is `null` was never set."""
    if not isinstance(message, dict):
        return message
    kept = {name: value for name, value in message.items() if value is not None}
    calls = kept.get("tool_calls")
    if isinstance(calls, list):
        kept["tool_calls"] = [_without_nulls(call) for call in calls]
    if "function" in kept:
        kept["function"] = _without_nulls(kept["function"])
    return kept


def _explained(message: str, asked: Mapping[str, Any]) -> InvalidRequest:
    """What msgspec found, in words of JSON."""
    # Our own path comes last, whatever a client's text holds; only a missing field at the top has none.
    what, _, where = message.rpartition(" - at ") if " - at " in message else (message, "", "`$`")
    of_key = where.startswith("`key` in ")
    path = where.removeprefix("`key` in ").strip("`").removeprefix("$")
    param = path.removesuffix("[...]").removeprefix(".")
    if field := FIELD.fullmatch(what):
        inner = f"{param}.{field[2][:MAX_SHOWN]}".removeprefix(".")
        return missing_parameter(inner) if field[1] == "missing required" else unknown_parameter(inner)
    if what.startswith("Invalid"):
        return _not_a_choice(param, path, asked)
    if "matching regex" in what:
        return invalid_value(param, NAME_RULE)
    subject = f"A key of `{param}`" if of_key else f"A value of `{param}`" if path.endswith("[...]") else f"`{param}`"
    if bound := OUT_OF_BOUNDS.fullmatch(what):
        return InvalidRequest(f"{subject} must be {_bounded(*bound.groups())}.", param=param, code="invalid_value")
    if wrong := WRONG_TYPE.fullmatch(what):
        return _of_wrong_type(subject, param, wrong[1], None if of_key else wrong[2])
    return InvalidRequest(f"{subject}: {what[:MAX_SHOWN]}.", param=param, code="invalid_value")


def _bounded(kind: str, of_length: str | None, comparison: str, bound: str) -> str:
    expected = EXPECTED.get(kind, kind)
    if of_length:
        return f"{expected} {BOUNDS[comparison]} {bound} {UNITS.get(kind, 'characters')}"
    return f"{expected} {BOUNDS[comparison]} {bound.removesuffix('.0')}"


def _of_wrong_type(subject: str, param: str, expected: str, got: str | None) -> InvalidRequest:
    refused = MESSAGE_FIELDS.get(f"assistant.{param.rpartition('.')[2]}") if expected == "null" else None
    if refused is not None:
        return unsupported_parameter(param, refused.note)
    kinds = [EXPECTED.get(kind, kind) for kind in expected.split(" | ") if kind != "null" or expected == "null"]
    told = f"{', '.join(kinds[:-1])} or {kinds[-1]}" if len(kinds) > 1 else kinds[0]
    but = "" if got is None else f", not {EXPECTED.get(got, got).partition(' (')[0]}"
    return InvalidRequest(f"{subject} must be {told}{but}.", param=param, code="invalid_type")


def _not_a_choice(param: str, path: str, asked: Any) -> InvalidRequest:
    """A role, a type or a word that is none of those taken here."""
    value, names = asked, []
    for name, index, _ in PLACE.findall(path):
        value = value[name or int(index)]
        names += [name] if name else []
    field = f"{names[-2]}.type" if names[-1] == "type" and len(names) > 1 else names[-1]
    if refused := KINDS.get(f"{field.removesuffix('.type')}:{value}"):
        return unsupported_parameter(param, f"{json_text(value)}: {refused.note}")
    choices = CHOICES.get(field, "one of those documented")
    return invalid_value(param, f"must be {choices}, not {json_text(value)}")
