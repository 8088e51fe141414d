"""Limits that are settings, and rules between the fields of a chat request. Pure.

What a single field may be stands in `chat_fields`. Here values are also brought to one form: a stop is a list, what
asks for nothing is left out.
"""

from collections.abc import Iterable

from msgspec import Raw

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire.chat_fields import EXTENSIONS, AllowedChoice, ChatBody, NamedChoice, SchemaFormat, TextFormat, Tool
from gateway.wire.chat_messages import EMPTY
from gateway.wire.json_body import MAX_SHOWN, invalid_value, missing_parameter, unknown_parameter
from gateway.wire.schemas import checked_schema

NULL = b"null"


def apply_rules(body: ChatBody, surface: SurfaceSettings) -> None:
    """Check the fields beside the messages, and bring them to one form. Raises `InvalidRequest`."""
    if body.n is not None and body.n > surface.max_choices:
        raise invalid_value("n", f"must be a whole number of at most {surface.max_choices}")
    if body.stop is not None:
        _apply_stop(body, surface)
    if body.max_completion_tokens is not None and body.max_tokens not in (None, body.max_completion_tokens):
        raise invalid_value("max_tokens", "must equal `max_completion_tokens`; send one of them")
    if body.top_logprobs and not body.logprobs:
        raise invalid_value("top_logprobs", "needs `logprobs` to be `true`")
    if body.stream_options is not None and not body.stream:
        raise invalid_value("stream_options", "needs `stream` to be `true`")
    if body.logit_bias is not None and len(body.logit_bias) > surface.max_logit_bias:
        raise invalid_value("logit_bias", f"must hold at most {surface.max_logit_bias} tokens")
    if body.tools is not None or body.tool_choice is not None or body.parallel_tool_calls is not None:
        _apply_tools(body, surface)
    if body.response_format is not None:
        _apply_format(body, surface)
    if surface.extensions == "strict":
        for name in EXTENSIONS:
            if getattr(body, name) is not None:
                raise unknown_parameter(name)
    elif body.chat_template_kwargs is not None:
        _apply_arguments(body, surface)


def _apply_stop(body: ChatBody, surface: SurfaceSettings) -> None:
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stops) > surface.max_stops:
        raise invalid_value("stop", f"must hold at most {surface.max_stops} texts")
    for index, stop in enumerate(stops):
        if not 0 < len(stop) <= surface.max_stop_characters:
            param = "stop" if isinstance(body.stop, str) else f"stop[{index}]"
            raise invalid_value(param, f"must be a string of 1 to {surface.max_stop_characters} characters")
    body.stop = stops or None


def _apply_tools(body: ChatBody, surface: SurfaceSettings) -> None:
    tools, choice = body.tools, body.tool_choice
    if not tools:
        if choice not in (None, "none"):
            raise invalid_value("tool_choice", "needs `tools` to choose from")
        body.tools = body.tool_choice = body.parallel_tool_calls = None
        return
    if len(tools) > surface.max_tools:
        raise invalid_value("tools", f"must hold at most {surface.max_tools} tools")
    if sum(_sizes(tools)) > surface.max_schemas_bytes:
        raise invalid_value("tools", f"must hold at most {surface.max_schemas_bytes} bytes of schemas together")
    for index, tool in enumerate(tools):
        function = tool.function
        if function.parameters is not EMPTY:
            function.parameters = _parameters(function.parameters, index, surface)
    named = [choice] if isinstance(choice, NamedChoice) else []
    if isinstance(choice, AllowedChoice):
        named = choice.allowed_tools.tools
        allowed = {one.function.name for one in named}
        body.tools = [tool for tool in tools if tool.function.name in allowed]
        body.tool_choice = choice.allowed_tools.mode
    for one in named:
        if all(tool.function.name != one.function.name for tool in tools):
            raise invalid_value("tool_choice", f"names the function `{one.function.name}`, which is not among `tools`")


def _sizes(tools: Iterable[Tool]) -> Iterable[int]:
    return (len(memoryview(tool.function.parameters)) for tool in tools)


def _parameters(given: Raw, index: int, surface: SurfaceSettings) -> Raw:
    if bytes(given) == NULL:
        return EMPTY
    return checked_schema(given, f"tools[{index}].function.parameters", surface)


def _apply_format(body: ChatBody, surface: SurfaceSettings) -> None:
    asked = body.response_format
    if isinstance(asked, TextFormat):
        body.response_format = None
    elif isinstance(asked, SchemaFormat):
        param = "response_format.json_schema.schema"
        if bytes(asked.json_schema.schema) == NULL:
            raise missing_parameter(param)
        asked.json_schema.schema = checked_schema(asked.json_schema.schema, param, surface)


def _apply_arguments(body: ChatBody, surface: SurfaceSettings) -> None:
    for name in body.chat_template_kwargs or ():
        if name not in surface.template_arguments:
            raise InvalidRequest(
                f"`chat_template_kwargs` takes {', '.join(surface.template_arguments)} alone; leave out what else it "
                "holds (`surface.template_arguments`).",
                param=f"chat_template_kwargs.{name[:MAX_SHOWN]}",
                code="unknown_parameter",
            )
    body.chat_template_kwargs = body.chat_template_kwargs or None
