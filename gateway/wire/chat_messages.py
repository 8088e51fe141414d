"""The messages of a chat request: what is taken of them, what an engine is told, what is stored. Pure.

Types named `...Message` are as clients write them. What goes further is made anew from typed values.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct
from msgspec.json import Encoder

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire.json_body import invalid_value, is_deeper, parse_json, unsupported_parameter

IMAGE_DATA = tuple(f"data:image/{kind};base64," for kind in ("png", "jpeg", "webp", "gif"))
FETCHED = ("https://", "http://")
EMPTY = Raw()

Name = Annotated[str, Meta(max_length=256)]

_encode = Encoder().encode


class Wire(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A JSON object of ours: no field but its own is taken, and none that was left out is written."""


class CacheBreakpoint(Wire):
    """Where a prompt should be cached up to. Taken and not needed: engines cache prompts by themselves."""

    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] | None = None


class TextPart(Wire, tag_field="type", tag="text"):
    """Text."""

    text: str
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class RefusalPart(Wire, tag_field="type", tag="refusal"):
    """What a model said when it declined: text, to an engine and in the record."""

    refusal: str


class ImageUrl(Wire):
    """An image, as a `data:` address."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Wire, tag_field="type", tag="image_url"):
    """An image."""

    image_url: ImageUrl
    prompt_cache_breakpoint: CacheBreakpoint | None = None


Part = TextPart | RefusalPart | ImagePart
Text = str | Annotated[list[TextPart], Meta(min_length=1)]


class CalledFunction(Struct, forbid_unknown_fields=True, gc=False):
    """The function that a model called; `parsed_arguments` is the openai SDK's own."""

    name: str
    arguments: str
    parsed_arguments: Raw = EMPTY


class CalledTool(Struct, forbid_unknown_fields=True, gc=False):
    """A call in an earlier answer; `index` is left over from a stream."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"
    index: int | None = None


class SystemMessage(Wire, tag_field="role", tag="system"):
    """What the model is told to be."""

    content: Text
    name: Name | None = None


class DeveloperMessage(Wire, tag_field="role", tag="developer"):
    """The same, as newer clients call it."""

    content: Text
    name: Name | None = None


class UserMessage(Wire, tag_field="role", tag="user"):
    """What a person said or showed."""

    content: str | Annotated[list[TextPart | ImagePart], Meta(min_length=1)]
    name: Name | None = None


class ToolMessage(Wire, tag_field="role", tag="tool"):
    """What a tool answered."""

    content: Text
    tool_call_id: str


class AssistantMessage(Wire, tag_field="role", tag="assistant"):
    """What a model said. All from `refusal` on is echoed from earlier answers, and goes no further than here."""

    content: str | Annotated[list[TextPart | RefusalPart], Meta(min_length=1)] | None = None
    name: Name | None = None
    tool_calls: list[CalledTool] | None = None
    refusal: str | None = None
    annotations: Raw = EMPTY
    parsed: Raw = EMPTY
    audio: None = None
    function_call: None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionTurn(Struct, gc=False):
    """The function that a model called."""

    name: str
    arguments: str


class CallTurn(Struct, gc=False):
    """A call that a model made."""

    id: str
    type: str
    function: FunctionTurn


class AssistantTurn(Wire, tag_field="role", tag="assistant"):
    """What a model said, as an engine is told."""

    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[CallTurn] | None = None


class StoredTurn(AssistantTurn, tag_field="role", tag="assistant"):
    """What a model said, with what it thought before."""

    reasoning: str | None = None


class Conversation(Struct, gc=False):
    """The messages as JSON, for the engine and for the record, and what is asked about them."""

    engine_json: bytes
    stored_json: bytes
    images: int
    image_bytes: int
    """How much of the JSON is images."""
    first_user: UserMessage | None


def read_conversation(messages: Sequence[ChatMessage], surface: SurfaceSettings) -> Conversation:
    """Check and clean the messages. Raises `InvalidRequest` naming the one that cannot be."""
    if len(messages) > surface.max_messages:
        raise invalid_value("messages", f"must hold at most {surface.max_messages} messages")
    turns: list[Any] = []
    thoughts: list[tuple[int, StoredTurn]] = []
    shown: list[str] = []
    first_user = None
    for index, message in enumerate(messages):
        content = message.content
        if type(content) is list:
            shown += _clean_parts(content, f"messages[{index}].content", surface)
        if type(message) is AssistantMessage:
            turn = _turn(message, index, surface)
            thought = message.reasoning or message.reasoning_content
            if thought:
                thoughts.append((index, StoredTurn(turn.content, turn.name, turn.tool_calls, thought)))
            turns.append(turn)
            continue
        if first_user is None and type(message) is UserMessage:
            first_user = message
        turns.append(message)
    if len(shown) > surface.max_images:
        raise invalid_value("messages", f"must hold at most {surface.max_images} images")
    engine_json = stored_json = _encode(turns)
    if thoughts:
        for index, stored in thoughts:
            turns[index] = stored
        stored_json = _encode(turns)
    return Conversation(engine_json, stored_json, len(shown), sum(map(len, shown)), first_user)


def text_of(message: UserMessage | None) -> str:
    """The text of a message, its text parts joined."""
    if message is None or isinstance(message.content, str):
        return "" if message is None else str(message.content)
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def _clean_parts(parts: list[Any], place: str, surface: SurfaceSettings) -> list[str]:
    """Make the parts ready for an engine, in place; the addresses of the images among them."""
    if len(parts) > surface.max_messages:
        raise invalid_value(place, f"must hold at most {surface.max_messages} parts")
    images: list[str] = []
    for index, part in enumerate(parts):
        kind = type(part)
        if kind is RefusalPart:
            parts[index] = TextPart(part.refusal)
            continue
        part.prompt_cache_breakpoint = None
        if kind is ImagePart:
            images.append(part.image_url.url)
            _check_image(part.image_url.url, f"{place}[{index}].image_url.url", surface)
    return images


def _check_image(url: str, place: str, surface: SurfaceSettings) -> None:
    if url.startswith(IMAGE_DATA) or (surface.fetch_image_urls and url.startswith(FETCHED)):
        return
    if url.startswith(FETCHED):
        raise unsupported_parameter(
            place,
            "images are not fetched from addresses; send `data:image/png;base64,...` (`surface.fetch_image_urls`)",
        )
    raise invalid_value(place, "must be a PNG, JPEG, WebP or GIF image as `data:image/png;base64,...`")


def _turn(message: AssistantMessage, index: int, surface: SurfaceSettings) -> AssistantTurn:
    calls = None
    if message.tool_calls:
        calls = [
            _call(call, f"messages[{index}].tool_calls[{n}]", surface) for n, call in enumerate(message.tool_calls)
        ]
    return AssistantTurn(message.content, message.name, calls)  # type: ignore[arg-type]  # its parts are all text now


def _call(call: CalledTool, place: str, surface: SurfaceSettings) -> CallTurn:
    function = call.function
    arguments = function.arguments
    # Chat templates parse this text again, inside the engine, which would break over thousands of brackets.
    if arguments.count("[") + arguments.count("{") > surface.max_json_depth:
        place = f"{place}.function.arguments"
        try:
            decoded = parse_json(arguments.encode())
        except InvalidRequest as error:
            raise invalid_value(place, "must be JSON") from error
        if is_deeper(decoded, surface.max_json_depth):
            raise invalid_value(place, f"is nested more than {surface.max_json_depth} levels deep; send it flatter")
    return CallTurn(call.id, "function", FunctionTurn(function.name, arguments))
