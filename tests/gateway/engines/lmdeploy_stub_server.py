"""LMDeploy's real API server on a machine without a GPU: only the engine under it is replaced.

Takes the command line of `python -m lmdeploy`, and runs in LMDeploy's own environment. STUB_ENGINE says what decodes:
`echo` repeats a canned sentence and refuses updates, `transformers` runs the model on the CPU and takes them.
STUB_STEP_SECONDS is how long a token takes at least. How many requests are being answered, and how many were left
before their end, goes to standard output.
"""

import asyncio
import base64
import os
import threading
from collections.abc import AsyncIterator, Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
import xgrammar
from lmdeploy._guided_decoding import compile_response_format
from lmdeploy.cli import run
from lmdeploy.messages import EngineOutput, GenerationConfig, PytorchEngineConfig, ResponseType, ScheduleMetrics
from lmdeploy.serve.core.async_engine import AsyncEngine
from transformers import AutoModelForCausalLM, AutoTokenizer

STEP_SECONDS = float(os.environ.get("STUB_STEP_SECONDS", "0"))
Step = Callable[[], tuple[int, dict[int, float] | None]]
"""The next token, and the log-probabilities of it and the likeliest ones."""
CANNED = "Hello from the stub. "


class EchoEngine:
    """What `AsyncEngine` asks of an engine; decodes a canned sentence, over and over."""

    def __init__(self, model_path: str, config: PytorchEngineConfig) -> None:
        self.engine_config = config
        self.asleep = False
        self.active = self.cut_off = 0
        self.load(model_path)

    def count(self, change: int, cut_off: bool = False) -> None:
        self.active += change
        self.cut_off += cut_off
        print(f"stub: {self.active} active, {self.cut_off} cut off", flush=True)

    def load(self, model_path: str) -> None:
        self.canned = AutoTokenizer.from_pretrained(model_path).encode(CANNED)

    def decoder(self, prompt: list[int], config: GenerationConfig) -> Step:
        position = iter(range(1 << 30))
        return lambda: (self.canned[next(position) % len(self.canned)], None)

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
    """Decodes with the model, and takes its weights from `/update_weights`."""

    def load(self, model_path: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(model_path)
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=self.model.config.vocab_size)
        self.compiler = xgrammar.GrammarCompiler(info)
        self.lock = threading.Lock()

    def decoder(self, prompt: list[int], config: GenerationConfig) -> Step:
        ids, cache = torch.tensor([prompt]), None
        choose = Chooser(config, self.compiler)

        @torch.inference_mode()
        def step() -> tuple[int, dict[int, float] | None]:
            nonlocal ids, cache
            with self.lock:
                output = self.model(ids, past_key_values=cache, use_cache=True)
            token, logprobs = choose(output.logits[0, -1])
            cache, ids = output.past_key_values, torch.tensor([[token]])
            return token, logprobs

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


class Chooser:
    """Chooses tokens as `lmdeploy.pytorch` does it: processors, grammar, temperature, top-k, top-p, seed."""

    def __init__(self, config: GenerationConfig, compiler: xgrammar.GrammarCompiler) -> None:
        self.config = config
        self.random = torch.Generator().manual_seed(config.random_seed % (1 << 63))
        form = config.response_format
        self.matcher = xgrammar.GrammarMatcher(compile_response_format(compiler, form)) if form else None

    def __call__(self, logits: torch.Tensor) -> tuple[int, dict[int, float] | None]:
        raw = logits.log_softmax(-1)
        for processor in self.config.logits_processors or ():
            logits = processor([], logits.clone())
        if self.matcher is not None:
            mask = xgrammar.allocate_token_bitmask(1, len(logits))
            self.matcher.fill_next_token_bitmask(mask)
            logits = logits.clone()
            xgrammar.apply_token_bitmask_inplace(logits.unsqueeze(0), mask)
        token = self.sampled(logits)
        if self.matcher is not None:
            self.matcher.accept_token(token)
        if self.config.logprobs is None:
            return token, None
        likely = raw.topk(self.config.logprobs).indices.tolist()
        return token, {number: float(raw[number]) for number in (token, *likely)}

    def sampled(self, logits: torch.Tensor) -> int:
        if self.config.temperature == 0 or self.config.top_k == 1:
            return int(logits.argmax())
        values, order = (logits / self.config.temperature).sort(descending=True)
        chances = values.softmax(-1)
        chances[chances.cumsum(-1) - chances > self.config.top_p] = 0
        if self.config.top_k:
            chances[self.config.top_k :] = 0
        return int(order[torch.multinomial(chances, 1, generator=self.random)])


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
        self.engine.count(+1)
        finished = False
        try:
            async for output in self.outputs(session_id, input_ids, gen_config):
                finished = output.status is ResponseType.FINISH
                yield output
        finally:
            self.engine.count(-1, cut_off=not finished)

    async def outputs(
        self, session_id: int, input_ids: list[int], config: GenerationConfig
    ) -> AsyncIterator[EngineOutput]:
        stop = set() if config.ignore_eos else set(config.stop_token_ids or ())
        step = self.engine.decoder(input_ids, config)
        for left in range(config.max_new_tokens - 1, -1, -1):
            if self.engine.asleep or session_id in self.cancelled:
                yield EngineOutput(ResponseType.CANCEL, [])
                return
            token, logprobs = await asyncio.to_thread(step)
            await asyncio.sleep(STEP_SECONDS)
            done = not left or token in stop
            status = ResponseType.FINISH if done else ResponseType.SUCCESS
            yield EngineOutput(status, [token], logprobs=None if logprobs is None else [logprobs])
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
