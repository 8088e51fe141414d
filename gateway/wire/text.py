"""`POST /v1/completions`, the legacy route: a raw prompt goes on as it is, and OpenAI's schema comes back. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import UpstreamError
from gateway.settings import SurfaceSettings
from gateway.wire.chat_decisions import FORWARDED, HANDLED, REFUSED, Decision
from gateway.wire.decided import asking
from gateway.wire.json_body import invalid_field, invalid_value, unsupported_parameter

FIELDS: Mapping[str, Decision] = {
    "best_of": Decision(REFUSED, "ask for `n`, and choose yourself", (1,)),
    "echo": Decision(FORWARDED, "whether the prompt comes back before the text"),
    "frequency_penalty": Decision(FORWARDED, "-2 to 2"),
    "logit_bias": Decision(FORWARDED, "token ids to -100 to 100; at most `surface.max_logit_bias`"),
    "logprobs": Decision(FORWARDED, "0 to 5"),
    "max_tokens": Decision(FORWARDED, "1 or more"),
    "model": Decision(HANDLED, "an alias; decides which release answers"),
    "n": Decision(FORWARDED, "1 to `surface.max_choices`; at most 128 texts over all prompts"),
    "presence_penalty": Decision(FORWARDED, "-2 to 2"),
    "prompt": Decision(FORWARDED, "a text or a list of texts; token ids are refused"),
    "seed": Decision(FORWARDED, "64 bits"),
    "stop": Decision(FORWARDED, "a text or a list; at most `surface.max_stops`"),
    "stream": Decision(HANDLED, "whether the answer comes in chunks"),
    "stream_options": Decision(HANDLED, "with `stream`: `include_usage`; `include_obfuscation` is taken"),
    "suffix": Decision(REFUSED, "engines here only continue a text; leave it out", ("",)),
    "temperature": Decision(FORWARDED, "0 to 2"),
    "top_p": Decision(FORWARDED, "more than 0, up to 1"),
    "user": Decision(HANDLED, "whom the client asks for; counted as a keyed hash"),
}
EXTENSION_FIELDS: Mapping[str, Decision] = {
    "min_p": Decision(FORWARDED, "0 to 1"),
    "repetition_penalty": Decision(FORWARDED, "more than 0, up to 10"),
    "top_k": Decision(FORWARDED, "-1 or more"),
}
"""vLLM's dialect, unless `surface.extensions = "strict"`."""
SENT_ON = {name for name, decision in {**FIELDS, **EXTENSION_FIELDS}.items() if decision.kind == FORWARDED}
MAX_CHOICES = 128
"""Over all prompts of a request."""
FINISH_REASONS = {"stop": "stop", "length": "length", "content_filter": "content_filter", "repetition": "stop"}
LOGPROB_FIELDS = ("text_offset", "token_logprobs", "tokens", "top_logprobs")

Prompt = Annotated[str, Field(min_length=1)]
Stop = Annotated[str, Field(min_length=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class StreamOptions(BaseModel):
    """Options that only a streamed answer has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class TextRequest(BaseModel):
    """The body of `POST /v1/completions`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(min_length=1, max_length=256)
    prompt: Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=MAX_CHOICES)]
    echo: bool | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    logprobs: int | None = Field(default=None, ge=0, le=5)
    max_tokens: int | None = Field(default=None, ge=1)
    n: int | None = Field(default=None, ge=1)
    presence_penalty: Penalty | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stop | list[Stop] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    user: str | None = Field(default=None, max_length=256)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)

    @property
    def choices(self) -> int:
        """How many texts are asked for."""
        return (self.n or 1) * (1 if isinstance(self.prompt, str) else len(self.prompt))

    @property
    def wants_usage(self) -> bool:
        """Whether the stream is to end with a usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def first_prompt(self) -> str:
        """The prompt, or the first of them."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]

    def engine_body(self, engine_model: str) -> dict[str, Any]:
        """What the engine is sent."""
        body = self.model_dump(include=SENT_ON, exclude_none=True) | {"model": engine_model}
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if self.stream else {})


def parse_text_request(fields: dict[str, Any], surface: SurfaceSettings) -> TextRequest:
    """Validate a decoded body. Raises `InvalidRequest` that names the parameter."""
    refuse_token_ids("prompt", fields.get("prompt"))
    known = FIELDS if surface.extensions == "strict" else {**FIELDS, **EXTENSION_FIELDS}
    try:
        request = TextRequest.model_validate(asking(fields, known))
    except ValidationError as error:
        raise invalid_field(error) from error
    _check_limits(request, surface)
    return request


def _check_limits(request: TextRequest, surface: SurfaceSettings) -> None:
    if (request.n or 1) > surface.max_choices:
        raise invalid_value("n", f"must be a whole number of at most {surface.max_choices}")
    if request.choices > MAX_CHOICES:
        raise invalid_value("n", f"must not ask for more than {MAX_CHOICES} texts over all prompts")
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stops) > surface.max_stops:
        raise invalid_value("stop", f"must hold at most {surface.max_stops} texts")
    if any(len(stop) > surface.max_stop_characters for stop in stops):
        raise invalid_value("stop", f"must hold texts of at most {surface.max_stop_characters} characters")
    if len(request.logit_bias or ()) > surface.max_logit_bias:
        raise invalid_value("logit_bias", f"must hold at most {surface.max_logit_bias} tokens")
    if request.stream_options is not None and not request.stream:
        raise invalid_value("stream_options", "needs `stream` to be `true`")


def refuse_token_ids(param: str, value: Any) -> None:
    """Raise `InvalidRequest` for numbers where text is wanted: another tokenizer's ids would be read as nonsense."""
    items = value if isinstance(value, list) else ()
    if any(isinstance(item, int | float | list) and not isinstance(item, bool) for item in items):
        raise unsupported_parameter(param, "token ids mean something else to every model; send text")


class TextAnswer:
    """A text completion as it comes from the engine, cleaned to OpenAI's schema."""

    def __init__(self, head: dict[str, Any], request: TextRequest) -> None:
        self._head, self._request = head, request
        self._ended: set[int] = set()
        self.usage = clean_usage(None)

    @property
    def finished(self) -> bool:
        """Whether every text came to its end."""
        return len(self._ended) == self._request.choices

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        """The client's reply. Raises `UpstreamError` for a text without an end."""
        choices = [self._choice(raw) for raw in _list(reply)]
        self.usage = clean_usage(reply.get("usage"))
        return {**self._head, "choices": choices, "usage": self.usage}

    def chunk(self, raw: dict[str, Any]) -> dict[str, Any] | None:
        """The client's chunk, or None where there is nothing in it for the client."""
        if raw.get("usage"):
            self.usage = clean_usage(raw["usage"])
        choices = [self._choice(choice) for choice in _list(raw)]
        if not choices:
            return None
        return {**self._head, "choices": choices} | ({"usage": None} if self._request.wants_usage else {})

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk of a stream whose client asked for usage."""
        return {**self._head, "choices": [], "usage": self.usage}

    def _choice(self, raw: dict[str, Any]) -> dict[str, Any]:
        index, reason, given = int(raw.get("index", 0)), raw.get("finish_reason"), raw.get("logprobs")
        if reason is not None:
            if reason not in FINISH_REASONS:
                raise UpstreamError("The engine gave the answer up before its end; ask again.")
            self._ended.add(index)
        logprobs = {name: given.get(name) for name in LOGPROB_FIELDS} if isinstance(given, dict) else None
        said = {"index": index, "text": str(raw.get("text") or ""), "logprobs": logprobs}
        return {**said, "finish_reason": None if reason is None else FINISH_REASONS[reason]}


def clean_usage(usage: Any) -> dict[str, int]:
    """The three counts every client knows."""
    given = usage if isinstance(usage, dict) else {}
    asked, said = int(given.get("prompt_tokens") or 0), int(given.get("completion_tokens") or 0)
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def text_head(completion_id: str, created: int, release_name: str, release_id: str) -> dict[str, Any]:
    """The fields that open a reply and each of its chunks."""
    return {
        "id": completion_id,
        "object": "text_completion",
        "created": created,
        "model": release_name,
        "system_fingerprint": release_id,
    }


def _list(answer: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] | Literal[None] = answer.get("choices")
    if not isinstance(found, list):
        raise UpstreamError("The engine answered without `choices`; see the engine's log.")
    return found
