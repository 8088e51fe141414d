"""Settings of the way of a request: the door, what may be asked, the engines it is sent to, and what is told of it."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from gateway.sections.section import Section


class ServerSettings(Section):
    """Where the gateway listens and whom it lets in."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `auth = "on"`."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port of the OpenAI API, the admin routes and the console."""
    workers: PositiveInt = 1
    """Gateway processes that share the port."""
    auth: Literal["on", "off"] = "on"
    """`off` lets anybody on this machine in, as an admin; loopback only."""
    body_limit_bytes: PositiveInt = 4 << 20
    """A larger request body is refused with 413."""
    image_body_limit_bytes: PositiveInt = 32 << 20
    """The same for keys made with `--images`."""
    header_limit_bytes: PositiveInt = 16 << 10
    """A request whose address and headers are larger is refused with 431."""
    receipt_seconds: PositiveFloat = 15.0
    """A request whose headers, or whose body, take longer than this to arrive is refused with 408."""
    keep_alive_seconds: PositiveInt = 75
    """A connection on which nothing is asked is closed after this long. Keep it above what clients and proxies keep
    theirs for (5 to 60 s are usual), else a request may meet a connection that is just being closed."""
    stall_seconds: PositiveFloat = 60.0
    """A client that takes nothing of its answer for this long is cut off, and its engine freed."""
    drain_seconds: PositiveFloat = 30.0
    """On SIGTERM, open streams may go on for this long."""
    cors_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^/*]+$")], ...] = ()
    """Web pages of these origins, such as `https://chat.example.com`, may send votes with a vote token."""


class SurfaceSettings(Section):
    """What clients may ask for over the OpenAI API. A request beyond a limit is refused with 400."""

    extensions: Literal["vllm", "strict"] = "vllm"
    """`vllm` also takes `top_k`, `min_p`, `repetition_penalty` and `chat_template_kwargs`; `strict`: OpenAI's alone."""
    template_arguments: tuple[str, ...] = ("enable_thinking", "thinking", "thinking_budget", "reasoning_effort")
    """What `chat_template_kwargs` may hold; values are texts, numbers, `true`, `false` or `null`."""
    fetch_image_urls: bool = False
    """Whether engines may fetch images from `http` and `https` addresses that clients name."""
    store: Literal["always", "on_request", "never"] = "always"
    """Which completions are stored, so that they can be voted on: all, those with `"store": true`, or none. A request
    with `"store": false` is never stored."""
    max_json_depth: PositiveInt = 64
    """Levels of lists and objects within each other, in schemas and in the arguments of tool calls."""
    max_choices: PositiveInt = 16
    """Largest `n`."""
    max_messages: PositiveInt = 2048
    """Messages in a request, and parts in a message."""
    max_images: PositiveInt = 16
    """Images in a request."""
    max_stops: PositiveInt = 16
    """Stop texts in a request."""
    max_stop_characters: PositiveInt = 1000
    """Length of a stop text."""
    max_logit_bias: PositiveInt = 1024
    """Tokens in `logit_bias`."""
    max_tools: PositiveInt = 128
    """Tools in a request."""
    max_schema_bytes: PositiveInt = 64 << 10
    """Size of one JSON schema: of a tool's parameters, or of `response_format`."""
    max_schemas_bytes: PositiveInt = 512 << 10
    """Size of all JSON schemas of a request together."""
    max_schema_nodes: PositiveInt = 20_000
    """Subschemas in one JSON schema once each reference is replaced by what it refers to."""


class UpstreamSettings(Section):
    """How patient the gateway is with engines."""

    connect_timeout_seconds: PositiveFloat = 5.0
    """Wait this long for a replica to accept a connection, then try another one."""
    read_timeout_seconds: PositiveFloat = 300.0
    """A stream that brings nothing for this long, at its start or in between, is given up."""
    reply_timeout_seconds: PositiveFloat = 3600.0
    """A whole answer, not streamed, that has not come by then is given up."""


class PoolSettings(Section):
    """How a request finds its replica, and how one that fails is left out."""

    affinity_factor: float = Field(default=1.25, ge=1)
    """A replica keeps the conversations whose beginning it has cached until it has this many times the requests of the
    least busy one in flight, plus `affinity_slack_requests`; then they go to another."""
    affinity_slack_requests: PositiveInt = 8
    """See `affinity_factor`."""
    circuit_failures: PositiveInt = 5
    """A replica that failed this often in a row gets no more requests but a trial now and then."""
    circuit_open_seconds: PositiveFloat = 5.0
    """Time to the first trial; doubled each time a trial fails, up to 20 s."""
    probe_seconds: PositiveFloat = 3.0
    """An engine that somebody else runs is asked for its health this often."""
    probe_timeout_seconds: PositiveFloat = 2.0
    """One that has not answered by then failed the probe."""
    probe_failures: PositiveInt = 2
    """One that failed this many probes in a row gets nothing until it passes one."""


class SwapSettings(Section):
    """The fence around an exchange of weights."""

    max_stall_seconds: PositiveFloat = 30.0
    """Newcomers wait at most this long for open streams to end; then the exchange is put off."""
    retry_seconds: PositiveFloat = 20.0
    """An exchange that was put off is tried again after this long."""
    max_waiting_requests: PositiveInt = 1000
    """Newcomers that may wait in one worker; one more gets 429."""
    max_wait_seconds: PositiveFloat = 120.0
    """A newcomer for whom no replica becomes ready by then gets 503."""


class LimitSettings(Section):
    """What a key may use that was made without limits of its own; default: as much as it likes."""

    requests_per_minute: PositiveInt | None = None
    """Requests that are let in within a minute, over all workers."""
    tokens_per_minute: PositiveInt | None = None
    """Prompt and completion tokens within a minute, over all workers."""
    streams: PositiveInt | None = None
    """Requests open at once, over all workers."""


class TelemetrySettings(Section):
    """What the gateway tells of its work, and where."""

    request_log: Literal["off", "errors", "all"] = "errors"
    """Log a line for each request that ended: none, those that failed, or all."""
    log_prompts: bool = False
    """Put the prompt into that line too."""
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://")
    """Send traces to this OTLP/HTTP collector, such as `http://localhost:4318`; else `OTEL_EXPORTER_OTLP_ENDPOINT`."""
