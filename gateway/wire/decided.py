"""Holds a body against a table of decisions, on routes other than the hot one. Pure."""

from collections.abc import Mapping
from typing import Any

from gateway.wire.chat_decisions import REFUSED, Decision
from gateway.wire.json_body import unknown_parameter, unsupported_parameter


def asking(fields: Mapping[str, Any], decisions: Mapping[str, Decision]) -> dict[str, Any]:
    """The fields that ask for something. Raises `InvalidRequest` for one that is refused, or unknown."""
    kept = {}
    for name, value in without_nulls(fields).items():
        decision = decisions.get(name)
        if decision is None:
            raise unknown_parameter(name[:100])
        if decision.kind == REFUSED:
            refuse_unless(name, value, decision)
        else:
            kept[name] = value
    return kept


def without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are set: one that is `null` counts as left out, whatever its name."""
    return {name: value for name, value in fields.items() if value is not None}


def refuse_unless(param: str, value: Any, decision: Decision) -> None:
    """Raise `InvalidRequest` unless the value is absent or asks for nothing."""
    # `type` besides `==`: to Python, `true` equals 1
    if value is not None and not any(value == one and type(value) is type(one) for one in decision.neutral):
        raise unsupported_parameter(param, decision.note)
