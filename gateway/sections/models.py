"""Settings of the models that are served, and of the engines under them."""

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from gateway.sections.section import Section

DEFAULT_MODEL = "smollm2-135m-instruct"
EngineKind = Literal["vllm", "lmdeploy", "scripted", "url"]
Task = Literal["chat", "embed", "rerank"]


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
    environment: dict[str, str] = Field(default={})
    """Further environment variables of the engine process."""
    max_adapter_rank: NonNegativeInt = 32
    """Largest LoRA rank the engine makes room for: twice the trained rank for canaries over merged weights. 0: none."""
    tool_parser: str = "auto"
    """vLLM's parser of tool calls, such as `hermes`; `off`: none; `auto`: the one the model's chat template shows."""
    reasoning_parser: str = "auto"
    """vLLM's parser of what a model thinks before it answers, such as `qwen3`; `off` and `auto` as above."""
    exchange: Literal["auto", "second_process"] = "auto"
    """How an engine comes to other full weights: `auto`: while it runs, where it can (vLLM; LMDeploy on CUDA);
    `second_process`: another one is started beside it and takes over. Nobody waits, but both need room."""
    start_timeout_seconds: PositiveFloat = 600.0
    """An engine that has not generated a token by then is stopped and started again."""
    hung_seconds: PositiveFloat = 120.0
    """An engine that runs, but shows no sign of life for so long, is stopped and started again: no answer, or requests
    in flight of which its own counts say nothing new, and no token for the agent. Not while it loads weights."""

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
