"""JSON bodies, and what is wrong with them in words of JSON. `param` is spelt as OpenAI does: `messages[0].content`."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import ValidationError

from gateway.errors import InvalidRequest

MAX_SHOWN = 100
"""Characters of a client's own words in an error message."""


def parse_json(body: bytes) -> Any:
    """Decode a JSON body. Raises `InvalidRequest` with the place of the mistake.

    Of a key that comes twice the last value counts. NaN, Infinity, lone surrogates, numbers beyond a double and
    bytes that are not UTF-8 are refused.
    """
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:  # not all of them are msgspec's: bytes may not be UTF-8
        raise malformed(error) from error


def is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects stand within each other more than `levels` deep."""
    layer: list[Any] = [value] if isinstance(value, list | dict) else []
    for _ in range(levels):
        inner = (item for outer in layer for item in (outer if type(outer) is list else outer.values()))
        layer = [item for item in inner if type(item) is list or type(item) is dict]
    return bool(layer)


def json_text(value: Any) -> str:
    """A client's own value in an error message."""
    return msgspec.json.encode(value).decode()[:MAX_SHOWN]


def invalid_field(error: ValidationError) -> InvalidRequest:
    """The first thing that is wrong with a body that pydantic checked, as an error that names the parameter."""
    first: Mapping[str, Any] = error.errors(include_url=False, include_context=False)[0]
    param = spelt([part for part in first["loc"] if not _is_branch(part)])
    if first["type"] == "extra_forbidden":
        return unknown_parameter(param)
    if first["type"] == "missing":
        return missing_parameter(param)
    message = reason_of(first)
    wrong_kind = str(first["type"]).endswith(("_type", "_parsing"))
    return InvalidRequest(f"`{param}`: {message}.", param=param, code="invalid_type" if wrong_kind else "invalid_value")


def reason_of(flaw: Mapping[str, Any]) -> str:
    """What pydantic says is wrong, in words of JSON: it speaks of our Python types, and a client sent a list."""
    return str(flaw["msg"]).replace("Tuple should", "The list should").replace("valid tuple", "valid list")


def spelt(place: Sequence[str | int]) -> str:
    """A place within a body: `messages[0].content`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part[:MAX_SHOWN]}" for part in place]
    return "".join(parts).removeprefix(".")


def unknown_parameter(param: str) -> InvalidRequest:
    """A field that is none of ours."""
    return InvalidRequest(
        f"`{param}` is not a parameter that this server takes; leave it out.", param=param, code="unknown_parameter"
    )


def missing_parameter(param: str) -> InvalidRequest:
    """A field that must be there."""
    return InvalidRequest(f"`{param}` is missing.", param=param, code="missing_required_parameter")


def unsupported_parameter(param: str, reason: str) -> InvalidRequest:
    """A field of OpenAI's that is not offered here, and what to do instead."""
    return InvalidRequest(f"`{param}` is not supported: {reason}.", param=param, code="unsupported_parameter")


def invalid_value(param: str, must: str) -> InvalidRequest:
    """A value that cannot be; `must` says what it must be, or which rule it breaks."""
    return InvalidRequest(f"`{param}` {must}.", param=param, code="invalid_value")


def malformed(error: Exception) -> InvalidRequest:
    """Bytes that are no JSON, or JSON that nobody should have to read."""
    if isinstance(error, RecursionError):
        reason = "it is nested too deep"
    else:
        reason = str(error).removeprefix("JSON is malformed: ").partition(" - at ")[0]
    return InvalidRequest(f"The body is not valid JSON: {reason}.", code="invalid_json")


def _is_branch(part: Any) -> bool:
    # pydantic names the branch of a union in the path; the client never wrote it
    if not isinstance(part, str):
        return False
    return "[" in part or part.startswith("constrained-") or part in {"str", "float", "int", "bool"}
