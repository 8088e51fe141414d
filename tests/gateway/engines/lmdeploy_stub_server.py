"""LMDeploy's real API server on a machine without a GPU: only the engine under it is replaced.

Takes the command line of `python -m lmdeploy`, and runs in LMDeploy's own environment. STUB_ENGINE says what decodes:
`echo` repeats a canned sentence and refuses updates, `transformers` runs the model on the CPU and takes them.
"""

import asyncio
import base64
import os
import threading
from collections.abc import AsyncIterator, Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from lmdeploy.cli import run
from lmdeploy.messages import EngineOutput, PytorchEngineConfig, ResponseType, ScheduleMetrics
from lmdeploy.serve.core.async_engine import AsyncEngine
from transformers import AutoModelForCausalLM, AutoTokenizer

CANNED = "Hello from the stub. "


class EchoEngine:
    """What `AsyncEngine` asks of an engine; decodes a canned sentence, over and over."""

    def __init__(self, model_path: str, config: PytorchEngineConfig) -> None:
        self.engine_config = config
        self.asleep = False
        self.load(model_path)

    def load(self, model_path: str) -> None:
        self.canned = AutoTokenizer.from_pretrained(model_path).encode(CANNED)

    def decoder(self, prompt: list[int]) -> Callable[[], int]:
        position = iter(range(1 << 30))
        return lambda: self.canned[next(position) % len(self.canned)]

    def update_params(self, request: Any) -> None:
        raise ValueError("the echo engine takes no weights")

    def create_instance(self, cuda_stream_id: int = 0) -> "Handle":
        return Handle(self)

    def start_loop(self) -> bool:
        return True

    def end_session(self, session_id: int) -> bool:
        return True

    def close(self) -> None:
        pass

    def get_schedule_metrics(self) -> ScheduleMetrics:
        return ScheduleMetrics()

    async def get_health_status(self) -> dict[str, Any]:
        return {"alive": True, "message": "", "schedule_metrics": self.get_schedule_metrics()}

    async def sleep(self, level: int = 1) -> None:
        self.asleep = True

    def wakeup(self, tags: list[str] | None = None) -> None:
        self.asleep = bool(tags) and "kv_cache" not in tags


class TransformersEngine(EchoEngine):
    """Decodes greedily with the model, and takes its weights from `/update_weights`."""

    def load(self, model_path: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
        self.lock = threading.Lock()

    def decoder(self, prompt: list[int]) -> Callable[[], int]:
        ids, cache = torch.tensor([prompt]), None

        @torch.inference_mode()
        def step() -> int:
            nonlocal ids, cache
            with self.lock:
                output = self.model(ids, past_key_values=cache, use_cache=True)
            cache, ids = output.past_key_values, output.logits[:, -1:].argmax(-1)
            return int(ids)

        return step

    async def sleep(self, level: int = 1) -> None:
        await super().sleep(level)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.zero_()  # level 2 drops the weights: whatever does not arrive again is missing

    @torch.no_grad()
    def update_params(self, request: Any) -> None:
        """As `lmdeploy.pytorch` does it, with shared memory in place of CUDA's handles."""
        (data,) = request.serialized_named_tensors
        parameters = dict(self.model.named_parameters())
        for name, (rebuild, arguments) in ForkingPickler.loads(base64.b64decode(data)):
            parameters[name].copy_(rebuild(*arguments))


class Handle:
    """One request on the engine."""

    def __init__(self, engine: EchoEngine) -> None:
        self.engine = engine
        self.cancelled: set[int] = set()

    async def async_cancel(self, session_id: int) -> None:
        self.cancelled.add(session_id)

    async def async_stream_infer(
        self, session_id: int, input_ids: list[int], gen_config: Any = None, **_: Any
    ) -> AsyncIterator[EngineOutput]:
        self.cancelled.discard(session_id)
        stop = set() if gen_config.ignore_eos else set(gen_config.stop_token_ids or ())
        step = self.engine.decoder(input_ids)
        for left in range(gen_config.max_new_tokens - 1, -1, -1):
            if self.engine.asleep or session_id in self.cancelled:
                yield EngineOutput(ResponseType.CANCEL, [])
                return
            token = await asyncio.to_thread(step)
            done = not left or token in stop
            yield EngineOutput(ResponseType.FINISH if done else ResponseType.SUCCESS, [token])
            if done:
                return


ENGINES = {"echo": EchoEngine, "transformers": TransformersEngine}


def build(_: AsyncEngine, model_path: str, backend_config: PytorchEngineConfig, **__: Any) -> EchoEngine:
    """In place of `AsyncEngine._build_pytorch`."""
    backend_config.enable_metrics = False  # they come from inside the engine
    return ENGINES[os.environ["STUB_ENGINE"]](model_path, backend_config)


if __name__ == "__main__":
    AsyncEngine._build_pytorch = build
    run()
