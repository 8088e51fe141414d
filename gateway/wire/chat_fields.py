"""The body of a chat request as clients write it: every field that is taken, with its type and bounds. Pure.

`Parameters` is what an engine is told and what is recorded; whatever stands in `ChatBody` alone goes no further.
"""

from operator import attrgetter
from typing import Annotated, Literal

from msgspec import Meta, Raw

from gateway.wire.chat_messages import EMPTY, ChatMessage, Wire

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]
EndUser = Annotated[str, Meta(max_length=256)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
MetadataKey = Annotated[str, Meta(max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Argument = bool | Integer | float | Annotated[str, Meta(max_length=256)] | None
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class FunctionDefinition(Wire):
    """What a model may call."""

    name: FunctionName
    description: str | None = None
    parameters: Raw = EMPTY
    """A JSON schema; checked and written anew in `chat_rules`."""
    strict: bool | None = None


class Tool(Wire, tag_field="type", tag="function"):
    """A function; there are no other tools."""

    function: FunctionDefinition


class ChosenFunction(Wire):
    """The function that must be called."""

    name: FunctionName


class NamedChoice(Wire, tag_field="type", tag="function"):
    """The tool that must be called."""

    function: ChosenFunction


class AllowedTools(Wire):
    """The functions that may be called, and whether one must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedChoice], Meta(min_length=1)]


class AllowedChoice(Wire, tag_field="type", tag="allowed_tools"):
    """The tools that may be called: to an engine, those alone are told."""

    allowed_tools: AllowedTools


class TextFormat(Wire, tag_field="type", tag="text"):
    """Any text: the same as no format."""


class ObjectFormat(Wire, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(Wire):
    """A schema and its name."""

    name: FunctionName
    schema: Raw
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(Wire, tag_field="type", tag="json_schema"):
    """JSON that matches a schema."""

    json_schema: JsonSchema


class StreamOptions(Wire):
    """Options that only a streamed answer has."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Taken and not needed: nothing of an answer is padded."""


class CacheOptions(Wire):
    """How a prompt should be cached. Taken and not needed: engines cache prompts by themselves."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] | None = None


class Parameters(Wire):
    """The fields an engine is told and that are recorded, beside model and messages. No other reaches an engine."""

    n: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | list[Annotated[str, Meta(min_length=1)]] | None = None
    seed: Integer | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: TextFormat | ObjectFormat | SchemaFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | AllowedChoice | None = None
    parallel_tool_calls: bool | None = None
    logit_bias: dict[TokenId, Bias] | None = None
    reasoning_effort: Effort | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    chat_template_kwargs: dict[str, Argument] | None = None


class ChatBody(Parameters, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=16)] | None = None
    user: EndUser | None = None
    safety_identifier: EndUser | None = None
    prompt_cache_key: EndUser | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None


EXTENSIONS = ("top_k", "min_p", "repetition_penalty", "chat_template_kwargs")
"""Not OpenAI's: taken with `surface.extensions = "vllm"`."""

_values = attrgetter(*Parameters.__struct_fields__)


def parameters_of(body: ChatBody) -> Parameters:
    """What of a body an engine is told."""
    return Parameters(*_values(body))
