"""The body of `POST /v1/responses`, and the chat request it is answered as. Pure.

Only shapes are checked here. Bounds and values are the chat request's to check; `gateway/wire/responses/refusal.py`
tells its errors in this route's words.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.wire.chat_decisions import REFUSED, Decision
from gateway.wire.decided import asking, refuse_unless
from gateway.wire.json_body import invalid_field, json_text, unsupported_parameter
from gateway.wire.responses.decisions import FIELDS
from gateway.wire.responses.items import chat_messages
from gateway.wire.responses.tools import chat_tools

LOGPROBS = "message.output_text.logprobs"
INCLUDED = {LOGPROBS, "reasoning.encrypted_content"}
"""Reasoning is sent in clear, so whoever asks for it encrypted gets it as it is."""
AS_WRITTEN = "reasoning is sent as it is written; leave it out"
REASONING = {
    "summary": Decision(REFUSED, AS_WRITTEN, ("auto",)),
    "generate_summary": Decision(REFUSED, AS_WRITTEN, ("auto",)),
    "context": Decision(REFUSED, AS_WRITTEN, ("auto",)),
    "mode": Decision(REFUSED, "there is one mode; leave it out", ("standard",)),
}
VERBOSITY = Decision(REFUSED, "say in `instructions` how long the answer should be", ("medium",))


class Part(BaseModel):
    """An object within the body."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Reasoning(Part):
    """How hard to think; summaries are not made, the text itself is sent."""

    effort: str | None = None
    summary: Any = None
    generate_summary: Any = None
    context: Any = None
    mode: Any = None


class Format(Part):
    """The shape the text must have."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class Text(Part):
    """What kind of text to write."""

    format: Format | None = None
    verbosity: Any = None


class StreamOptions(Part):
    """Options that only a streamed answer has."""

    include_obfuscation: bool | None = None
    """Taken and not needed: nothing of an answer is padded."""


class ResponsesRequest(Part):
    """The fields that are translated or handled."""

    model: str
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    include: list[str] = []
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    """Bounds hosted tools, of which there are none."""
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning: Reasoning = Reasoning()
    safety_identifier: str | None = None
    store: bool | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    text: Text = Text()
    tool_choice: str | dict[str, Any] | None = None
    tools: list[dict[str, Any]] = []
    top_logprobs: int | None = None
    top_p: float | None = None
    user: str | None = None

    @property
    def wants_logprobs(self) -> bool:
        """Whether each token's log-probability is to be sent."""
        return LOGPROBS in self.include or bool(self.top_logprobs)


def parse_responses_request(fields: dict[str, Any]) -> ResponsesRequest:
    """Validate a decoded body. Raises `InvalidRequest` that names the parameter."""
    try:
        request = ResponsesRequest.model_validate(asking(fields, FIELDS))
    except ValidationError as error:
        raise invalid_field(error) from error
    for index, value in enumerate(request.include):
        if value not in INCLUDED:
            shown = json_text(value)
            raise unsupported_parameter(f"include[{index}]", f"{shown} belongs to tools that are not hosted here")
    for name, decision in REASONING.items():
        refuse_unless(f"reasoning.{name}", getattr(request.reasoning, name), decision)
    refuse_unless("text.verbosity", request.text.verbosity, VERBOSITY)
    return request


def chat_fields(request: ResponsesRequest) -> dict[str, Any]:
    """The chat request's body."""
    tools, tool_choice = chat_tools(request.tools, request.tool_choice)
    fields = {
        "model": request.model,
        "messages": chat_messages(request.instructions, request.input),
        "stream": request.stream,
        "max_completion_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "logprobs": request.wants_logprobs or None,
        "top_logprobs": request.top_logprobs or None,
        "tools": tools or None,
        "tool_choice": tool_choice,
        "parallel_tool_calls": request.parallel_tool_calls if tools else None,
        "response_format": _response_format(request.text.format),
        "reasoning_effort": request.reasoning.effort,
        "metadata": request.metadata,
        "store": request.store,
        "user": request.user,
        "safety_identifier": request.safety_identifier,
        "prompt_cache_key": request.prompt_cache_key,
    }
    if request.stream:
        fields["stream_options"] = {"include_usage": True}
    return {name: value for name, value in fields.items() if value is not None}


def _response_format(asked: Format | None) -> dict[str, Any] | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return {"type": "json_object"}
    schema = {"name": asked.name, "schema": asked.schema_, "description": asked.description, "strict": asked.strict}
    return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}
