"""Function tools and the choice among them as a chat request has them. Pure. Hosted tools are refused by name."""

from collections.abc import Sequence
from typing import Any

from gateway.errors import InvalidRequest
from gateway.wire.chat_decisions import REFUSED, Decision
from gateway.wire.decided import refuse_unless
from gateway.wire.json_body import invalid_value, json_text, unknown_parameter, unsupported_parameter

FUNCTION_FIELDS = ("name", "description", "parameters", "strict")
OWN_CODE = "only your own code calls functions here; leave it out"
PLAIN_FIELDS = {
    "allowed_callers": Decision(REFUSED, OWN_CODE, (["direct"],)),
    "async": Decision(REFUSED, OWN_CODE, (False,)),
    "defer_loading": Decision(REFUSED, "every tool is shown to the model; leave it out", (False,)),
}
"""Fields of a function that are taken as long as they ask for nothing."""
PLAIN_CHOICES = ("none", "auto", "required")

Tool = dict[str, Any]
ToolChoice = str | dict[str, Any] | None


def chat_tools(tools: Sequence[Tool], choice: ToolChoice) -> tuple[list[Tool], ToolChoice]:
    """The tools and the choice of the chat request. Raises `InvalidRequest` naming what is not supported."""
    functions = [_function(f"tools[{number}]", tool) for number, tool in enumerate(tools)]
    if choice is None or isinstance(choice, str):
        return functions, _plain(choice)
    if choice.get("type") == "function":
        return functions, {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("type") == "allowed_tools":
        return _allowed(functions, choice)
    raise _unsupported("tool_choice.type", choice.get("type"))


def _plain(choice: str | None) -> str | None:
    if choice is not None and choice not in PLAIN_CHOICES:
        raise invalid_value("tool_choice", f"must be one of {', '.join(PLAIN_CHOICES)}, or an object")
    return choice


def _function(place: str, tool: Tool) -> Tool:
    if tool.get("type") != "function":
        raise _unsupported(f"{place}.type", tool.get("type"))
    for name, value in tool.items():
        if name in PLAIN_FIELDS:
            refuse_unless(f"{place}.{name}", value, PLAIN_FIELDS[name])
        elif name not in ("type", "output_schema", *FUNCTION_FIELDS):
            raise unknown_parameter(f"{place}.{name[:100]}")
    function = {name: tool[name] for name in FUNCTION_FIELDS if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _allowed(functions: list[Tool], choice: dict[str, Any]) -> tuple[list[Tool], ToolChoice]:
    """Only some of the tools may be called: the others are not shown to the model."""
    listed = choice.get("tools")
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise invalid_value("tool_choice.tools", "must be a list of tools")
    names = [tool.get("name") for tool in listed]
    kept = [function for function in functions if function["function"].get("name") in names]
    if not kept:
        raise invalid_value("tool_choice.tools", "must name functions among `tools`")
    return kept, "required" if choice.get("mode") == "required" else "auto"


def _unsupported(param: str, kind: Any) -> InvalidRequest:
    return unsupported_parameter(param, f"{json_text(kind)} is not hosted here; only `function` is")
