"""LMDeploy: how to start its API server, and the control calls to one that runs.

Checked against 0.18. It takes LoRA adapters at start only, so a release is served as full weights: loaded at start, or
exchanged in place while the engine sleeps. The tensors travel as handles to device memory, through a short-lived child
(`lmdeploy_send_weights.py`). Whoever reaches `/update_weights` can run code in the engine, for it unpickles: hence
loopback only, and no origin but its own.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Self

from platformdirs import user_cache_path

from gateway.contracts.ids import WEIGHTS_NAME
from gateway.engines.calls import EngineCalls
from gateway.engines.protocol import Launch
from gateway.errors import SwapFailed, UpstreamError
from gateway.settings import EngineSettings

SENDER = Path(__file__).with_name("lmdeploy_send_weights.py")
VISIBLE_DEVICES = {
    "cuda": "CUDA_VISIBLE_DEVICES",
    "maca": "CUDA_VISIBLE_DEVICES",
    "ascend": "ASCEND_RT_VISIBLE_DEVICES",
}
SENDER_START_SECONDS = 120.0
SENDER_END_SECONDS = 5.0
SWAP_SECONDS = 600.0
REASON_CHARACTERS = 300
SAMPLING_DEFAULTS = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "UVICORN_LOG_LEVEL": "warning",
    # Every engine a Ray of its own: a second one would join the first's and wait for devices that it does not see.
    "RAY_ADDRESS": "local",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class LmdeployLauncher:
    """Starts `lmdeploy serve api_server` with the PyTorch engine."""

    def launch(self, settings: EngineSettings, model: Path, port: int, devices: str | None) -> Launch:
        """The command for one engine. `engine.args` come last, and so win over ours."""
        command = (
            *(str(settings.python or sys.executable), "-m", "lmdeploy", "serve", "api_server", str(model)),
            *("--backend", "pytorch"),
            *("--server-name", "127.0.0.1", "--server-port", str(port)),
            *("--model-name", WEIGHTS_NAME),
            # The default lets any web page in a browser on this machine call the engine.
            *("--allow-origins", f"http://127.0.0.1:{port}"),
            # The one executor of the PyTorch engine that takes new weights; it needs CUDA's memory handles.
            *(("--distributed-executor-backend", "ray") if lmdeploy_takes_weights(settings) else ()),
            # Without it every request for log-probabilities is refused.
            *("--logprobs-mode", "raw_logprobs"),
            *("--generation-config", str(sampling_defaults(model))),
            *settings.args,
        )
        return Launch(command, _environment(settings, devices))


def sampling_defaults(model: Path) -> Path:
    """A folder with the model's own sampling defaults, completed by OpenAI's in place of LMDeploy's.

    LMDeploy would sample at temperature 0.8 from 50 tokens where neither the request nor the model says otherwise.
    """
    try:
        own = json.loads((model / "generation_config.json").read_bytes())
    except (OSError, ValueError):
        own = {}
    text = json.dumps(SAMPLING_DEFAULTS | {name: value for name, value in own.items() if value is not None})
    folder = user_cache_path("alignway") / "lmdeploy" / hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "generation_config.json"
    if not file.exists():
        new = folder / f"{os.getpid()}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(file)
    return folder


class LmdeployControl:
    """Control calls to one engine process; made anew for each process, as the engine cannot tell what it holds."""

    def __init__(self, url: str, settings: EngineSettings, devices: str | None = None) -> None:
        self._calls = EngineCalls(url)
        self._settings = settings
        self._environment = _environment(settings, devices)
        self._held: str | None = None

    @property
    def max_adapter_rank(self) -> int:
        """0: no adapter can be loaded at run time."""
        return 0

    async def probe(self, name: str) -> None:
        """Generate one real token. `/health` is no proof: it answers from memory, after a sleep even wrongly."""
        await self._calls.generate_one(name)

    async def work_done(self) -> str:
        """The counts that move while the engine works."""
        return await self._calls.work_done()

    async def load_adapter(self, release_id: str, folder: Path) -> None:
        """Refused: LMDeploy takes adapters at start only."""
        raise _no_adapters()

    async def unload_adapter(self, release_id: str) -> None:
        """Refused, as there is none."""
        raise _no_adapters()

    async def replace_weights(self, release_id: str, folder: Path) -> None:
        """Exchange the full weights; the sleep drops the old ones and with them every cache.

        `UpstreamError`: the folder was no good, and the engine serves what it did. `SwapFailed`: restart it.
        """
        if not lmdeploy_takes_weights(self._settings):
            raise SwapFailed("LMDeploy exchanges weights in place on CUDA only; restart the engine on the release")
        async with WeightSender(self._sender_command(folder), self._environment) as sender:
            self._held = None
            try:
                async with asyncio.timeout(SWAP_SECONDS):
                    await self._exchange(sender)
            except (UpstreamError, TimeoutError) as error:
                reason = str(error) or f"it took longer than {SWAP_SECONDS:g} s"
                raise SwapFailed(f"LMDeploy did not take the weights of {release_id}: {reason}") from error
        self._held = release_id

    async def _exchange(self, sender: "WeightSender") -> None:
        await self._calls.post("/sleep", query={"level": "2"}, timeout_seconds=SWAP_SECONDS)
        await self._calls.post("/wakeup", query={"tags": "weights"}, timeout_seconds=SWAP_SECONDS)
        await sender.send()
        await self._calls.post("/wakeup", query={"tags": "kv_cache"}, timeout_seconds=SWAP_SECONDS)
        # Waking answers 200 even where it did nothing.
        if await self._calls.get("/is_sleeping") != {"is_sleeping": False}:
            raise UpstreamError("the engine did not wake up")
        await self.probe(WEIGHTS_NAME)

    async def held_weights(self) -> str | None:
        """The release last put or marked through this object."""
        return self._held

    async def mark_weights(self, release_id: str) -> None:
        """Remember which release the engine was started with."""
        self._held = release_id

    async def close(self) -> None:
        """Close connections; the engine runs on."""
        await self._calls.close()

    def _sender_command(self, folder: Path) -> tuple[str, ...]:
        python = str(self._settings.python or sys.executable)
        ranks = _option(self._settings, "--tp", "1")
        return (python, str(SENDER), "--url", self._calls.url, "--folder", str(folder), "--ranks", ranks)


class WeightSender:
    """The child process that hands the tensors over. Entering waits until it is ready, leaving ends it."""

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = {**os.environ, **environment}

    async def __aenter__(self) -> Self:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment
            )
        except OSError as error:
            raise UpstreamError(f"the engine's Python does not run: {error}") from error
        try:
            await self._expect("ready", SENDER_START_SECONDS)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def send(self) -> None:
        """Hand every tensor over; returns when the engine has taken the last one."""
        stdin = self._process.stdin
        if stdin is not None:
            stdin.write(b"go\n")
        await self._expect("sent", SWAP_SECONDS)

    async def _expect(self, word: str, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._read_until(word)
        except TimeoutError as error:
            raise UpstreamError(f"the sender of weights was not {word} within {timeout_seconds:g} s") from error

    async def _read_until(self, word: str) -> None:
        """Other lines than the child's own are some library's chatter."""
        stdout = self._process.stdout
        while stdout is not None and (line := await stdout.readline()):
            said, _, rest = line.decode(errors="replace").strip().partition(" ")
            if said == word:
                return
            if said == "failed":
                raise UpstreamError(f"the weights cannot be sent: {rest[:REASON_CHARACTERS]}")
        raise UpstreamError("the sender of weights ended without a word; see the engine's log")

    async def _end(self) -> None:
        """Let it go in peace, so that it gives its shared memory back; insist after a while."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(SENDER_END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def _no_adapters() -> UpstreamError:
    return UpstreamError(
        'LMDeploy takes LoRA adapters at start only; serve the release as merged weights (swap = "merged")',
        code="adapters_not_supported",
    )


def _option(settings: EngineSettings, name: str, default: str) -> str:
    """The value of `--name value` or `--name=value` in `engine.args`; the last one counts, as for the engine."""
    arguments = [part for argument in settings.args for part in argument.split("=", 1)]
    return next((value for key, value in reversed([*pairwise(arguments)]) if key == name), default)


def lmdeploy_takes_weights(settings: EngineSettings) -> bool:
    """Whether it takes new weights while it runs: tensors travel as handles to CUDA's memory."""
    return _device(settings) == "cuda"


def _device(settings: EngineSettings) -> str:
    return _option(settings, "--device", "cuda")


def _environment(settings: EngineSettings, devices: str | None) -> dict[str, str]:
    """What engine and sender see beside this process's environment: the same devices above all."""
    variable = VISIBLE_DEVICES.get(_device(settings), "CUDA_VISIBLE_DEVICES")
    visible = {} if devices is None else {variable: devices}
    return ENVIRONMENT | visible | settings.environment
