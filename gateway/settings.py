"""Typed settings. Each is documented where it is declared; an unknown key is an error.

Nothing is read here: `gateway/commands/configuration.py` reads file, environment and flags, once, at the edge.
"""

from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

DEFAULT_MODEL = "smollm2-135m-instruct"
EngineKind = Literal["vllm", "lmdeploy", "scripted", "url"]
Task = Literal["chat", "embed", "rerank"]
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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
    stall_seconds: PositiveFloat = 60.0
    """A client that takes nothing of its answer for this long is cut off, and its engine freed."""
    drain_seconds: PositiveFloat = 30.0
    """On SIGTERM, open streams may go on for this long."""


class DatabaseSettings(Section):
    """Where the records are kept."""

    url: str | None = None
    """`postgresql+asyncpg://user:password@host/name`; default: SQLite in the data directory."""


class StoreSettings(Section):
    """Where releases, datasets and run logs are kept."""

    path: Path | None = None
    """A directory; default: `store` in the data directory."""


class EngineSettings(Section):
    """The inference software under a model."""

    kind: EngineKind = "vllm"
    """`vllm`, `lmdeploy`, `url` (an engine that somebody else runs), `scripted` (deterministic answers, for tests)."""
    args: tuple[str, ...] = ()
    """Passed on to the engine's server verbatim, after our own."""
    python: Path | None = None
    """Python of the environment the engine is installed in; default: the one that runs Alignway."""
    url: str | None = None
    """Base address of an engine that somebody else runs, such as `http://127.0.0.1:8000`."""
    urls: tuple[str, ...] = ()
    """Instead of `url`: several engines that somebody else runs, all with the same model; each is a replica."""
    model: str | None = None
    """What that engine calls its model; default: the only one it lists."""
    dialect: Literal["vllm", "lmdeploy"] | None = None
    """What that engine is. Default: what it says in `GET /v1/models` when the gateway starts; else as vLLM."""
    environment: dict[str, str] = {}
    """Further environment variables of the engine process."""
    max_adapter_rank: NonNegativeInt = 16
    """Largest LoRA rank the engine makes room for; 0 turns adapters off."""
    tool_parser: str = "auto"
    """vLLM's parser of tool calls, such as `hermes`; `off`: none; `auto`: the one the model's chat template shows."""
    reasoning_parser: str = "auto"
    """vLLM's parser of what a model thinks before it answers, such as `qwen3`; `off` and `auto` as above."""
    start_timeout_seconds: PositiveFloat = 600.0
    """An engine that has not generated a token by then is stopped and started again."""

    @model_validator(mode="after")
    def _url_fits_kind(self) -> "EngineSettings":
        if (self.kind == "url") != bool(self.addresses):
            raise ValueError('engine.url or engine.urls goes with engine.kind = "url", and only with it')
        if (self.url is not None and self.urls) or len(set(self.addresses)) != len(self.addresses):
            raise ValueError("give each address once, in engine.url or in engine.urls")
        if self.dialect is not None and self.kind != "url":
            raise ValueError('engine.dialect goes with engine.kind = "url"; of its own engines Alignway knows it')
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the engines listen that somebody else runs: one for each replica."""
        given = self.urls if self.url is None else (self.url, *self.urls)
        return tuple(url.rstrip("/") for url in given)


class ModelSettings(Section):
    """One `[[models]]` entry: an alias and the engine behind it."""

    alias: str = Field(default="assistant", pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """The name clients put in `model`."""
    model: str = DEFAULT_MODEL
    """A folder, a Hugging Face or ModelScope id, or `smollm2-135m-instruct` (installed with Alignway, English only)."""
    hub: Literal["huggingface", "modelscope"] = "huggingface"
    """Where an id is looked up."""
    images: bool = False
    """Whether the model sees: requests with images are refused otherwise."""
    task: Task = "chat"
    """`chat`, `embed` or `rerank`. The last two are passed on to `engine.url`; they have no releases, and train not."""
    replicas: PositiveInt = 1
    """How many engines serve the alias; of engines given by address there are as many as addresses."""
    devices: tuple[str, ...] = ()
    """Devices of the engines, such as `["0", "1"]`; default: the engine chooses."""
    swap: Literal["merged", "adapter"] = "merged"
    """How a promoted release is held: folded into the weights (fast), or as an adapter beside the base."""
    engine: EngineSettings = EngineSettings()

    @model_validator(mode="after")
    def _task_fits_engine(self) -> "ModelSettings":
        if self.task != "chat" and self.engine.kind != "url":
            raise ValueError(f'task = "{self.task}" needs an engine of yours: set engine.kind = "url" and engine.url')
        return self


class SurfaceSettings(Section):
    """What clients may ask for over the OpenAI API. A request beyond a limit is refused with 400."""

    extensions: Literal["vllm", "strict"] = "vllm"
    """`vllm` also takes `top_k`, `min_p`, `repetition_penalty` and `chat_template_kwargs`; `strict`: OpenAI's alone."""
    template_arguments: tuple[str, ...] = ("enable_thinking", "thinking", "thinking_budget", "reasoning_effort")
    """What `chat_template_kwargs` may hold; values are texts, numbers, `true`, `false` or `null`."""
    fetch_image_urls: bool = False
    """Whether engines may fetch images from `http` and `https` addresses that clients name."""
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


class TrustSettings(Section):
    """How much a kind of feedback weighs in training, 0 to 1."""

    preference: PositiveFloat = 1.0
    """A vote between two completions."""
    correction: PositiveFloat = 1.0
    """An answer rewritten by a person."""
    imported_pair: PositiveFloat = 1.0
    """A pair brought in from elsewhere."""


class FeedbackSettings(Section):
    """From votes to pairs."""

    trust: TrustSettings = TrustSettings()
    typo_distance: float = Field(default=0.02, ge=0, le=1)
    """A correction closer to the original than this (normalised edit distance) counts as a typo."""
    typo_weight: PositiveFloat = 0.3
    """Weight of a typo correction."""
    holdout_share: float = Field(default=0.1, ge=0, le=0.5)
    """Share of prompts kept from training to measure it, once `holdout_start_pairs` are held out."""
    holdout_start_share: float = Field(default=0.3, ge=0, le=0.5)
    """Share until then."""
    holdout_start_pairs: NonNegativeInt = 100
    """See `holdout_start_share`."""
    completion_wait_seconds: PositiveFloat = 2.0
    """A vote on a completion that is still being written waits this long for it."""


class AlignerSettings(Section):
    """When to train by itself, and where."""

    enabled: bool = True
    """Whether `alignway up` starts an aligner."""
    every: str | None = Field(default=None, pattern=r"^[1-9][0-9]*[smhd]$")
    """Train at this interval, such as `12h` or `7d`; default: only when asked."""
    min_new_pairs: PositiveInt | None = None
    """Train when this many pairs became eligible since the last run; default: only when asked."""
    auto_min_train_pairs: PositiveInt = 200
    """An automatic run waits for this many pairs to train on."""
    auto_min_holdout_pairs: PositiveInt = 50
    """An automatic run waits for this many pairs to measure on."""
    threads: NonNegativeInt = 0
    """CPU threads of a training run; 0: all cores."""


class TelemetrySettings(Section):
    """What the gateway tells of its work, and where."""

    request_log: Literal["off", "errors", "all"] = "errors"
    """Log a line for each request that ended: none, those that failed, or all."""
    log_prompts: bool = False
    """Put the prompt into that line too."""
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://")
    """Send traces to this OTLP/HTTP collector, such as `http://localhost:4318`; else `OTEL_EXPORTER_OTLP_ENDPOINT`."""


class Settings(Section):
    """Everything that can be set, for every process."""

    data_dir: Path = Path(".alignway")
    """Database, releases, logs and engine state live here."""
    admin_key: str | None = Field(default=None, min_length=16)
    """The first admin key; without it one is minted and printed once."""
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    store: StoreSettings = StoreSettings()
    models: tuple[ModelSettings, ...] = (ModelSettings(),)
    surface: SurfaceSettings = SurfaceSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    pool: PoolSettings = PoolSettings()
    swap: SwapSettings = SwapSettings()
    limits: LimitSettings = LimitSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    aligner: AlignerSettings = AlignerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _open_door_on_loopback_only(self) -> "Settings":
        if self.server.auth == "off" and self.server.host not in LOOPBACK:
            raise ValueError('server.auth = "off" is allowed on loopback alone; set server.host = "127.0.0.1"')
        if len({model.alias for model in self.models}) != len(self.models):
            raise ValueError("two [[models]] entries have the same alias")
        return self

    @property
    def database_url(self) -> str:
        """The URL of the database, with the default filled in."""
        return self.database.url or f"sqlite+aiosqlite:///{quote(str(self.data_dir.resolve() / 'alignway.db'))}"

    @property
    def store_path(self) -> Path:
        """The folder of the release store, with the default filled in."""
        return (self.store.path or self.data_dir / "store").resolve()
