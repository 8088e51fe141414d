"""A chat request as OpenAI clients send it: every field that is taken, and what becomes of it.

Fields an engine may see are listed in `ENGINE_FIELDS`; nothing else of a client's body ever reaches an engine.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gateway.contracts.message import Message, Role
from gateway.errors import InvalidRequest

ENGINE_FIELDS = frozenset(
    {
        "n", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "presence_penalty",
        "frequency_penalty", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice",
        "parallel_tool_calls", "logit_bias", "reasoning_effort", "top_k", "min_p", "repetition_penalty",
    }
)  # fmt: skip
"""Forwarded as they came, once validated."""

Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class RequestMessage(BaseModel):
    """One message of a request. Fields that clients echo from earlier answers are taken and not forwarded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: str | tuple[dict[str, Any], ...] | None = None
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    annotations: Any = None
    audio: None = None
    function_call: None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    def stored(self) -> Message:
        """The message as it is recorded and trained on."""
        return Message(
            role=self.role,
            content=self.content,
            name=self.name,
            tool_calls=self.tool_calls or None,
            tool_call_id=self.tool_call_id,
            reasoning=self.reasoning or self.reasoning_content,
        )


class StreamOptions(BaseModel):
    """Options that only a streamed answer has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ChatRequest(BaseModel):
    """The body of `POST /v1/chat/completions`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, max_length=256)
    messages: tuple[RequestMessage, ...] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=16)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: Annotated[tuple[Stop, ...] | None, BeforeValidator(_listed), Field(max_length=8)] = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] | None = Field(default=None, max_length=128)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(default=None, max_length=1024)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )
    store: bool | None = None
    user: str | None = Field(default=None, max_length=256)
    safety_identifier: str | None = Field(default=None, max_length=256)

    @property
    def end_user(self) -> str | None:
        """Whom the client says it asks for."""
        return self.safety_identifier or self.user

    @property
    def wants_usage(self) -> bool:
        """Whether the stream is to end with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage

    def stored_messages(self) -> list[Message]:
        """The prompt as it is recorded."""
        return [message.stored() for message in self.messages]

    def parameters(self) -> dict[str, Any]:
        """The sampling, tools and format that go to the engine and into the record."""
        return self.model_dump(include=set(ENGINE_FIELDS), exclude_none=True)

    def engine_body(self, engine_model: str) -> dict[str, Any]:
        """What the engine is sent."""
        messages = [message.stored().model_dump(exclude_none=True, exclude={"reasoning"}) for message in self.messages]
        body = self.parameters() | {"model": engine_model, "messages": messages}
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


def parse_json(body: bytes) -> Any:
    """Decode a JSON body. Raises `InvalidRequest` with the place of the mistake."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from error


def parse_chat_request(body: bytes) -> ChatRequest:
    """Validate a request body. Raises `InvalidRequest` that names the parameter."""
    fields = parse_json(body)
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    try:
        return ChatRequest.model_validate(fields)
    except ValidationError as error:
        raise invalid_field(error) from error


def invalid_field(error: ValidationError) -> InvalidRequest:
    """The first thing that is wrong, as an error that names the parameter."""
    first: Mapping[str, Any] = error.errors(include_url=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"] if not _is_branch(part))
    if first["type"] == "extra_forbidden":
        return InvalidRequest(
            f"`{param}` is not a parameter that this server takes; leave it out.", param=param, code="unknown_parameter"
        )
    if first["type"] == "missing":
        return InvalidRequest(f"`{param}` is missing.", param=param, code="missing_required_parameter")
    # pydantic speaks of our Python types; a client sent a JSON list
    message = str(first["msg"]).replace("Tuple should", "The list should").replace("valid tuple", "valid list")
    return InvalidRequest(f"`{param}`: {message}.", param=param, code="invalid_value")


def _is_branch(part: Any) -> bool:
    # pydantic names the branch of a union in the path; the client never wrote it
    return isinstance(part, str) and ("[" in part or part in {"str", "float", "int", "bool"})
