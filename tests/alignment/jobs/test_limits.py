"""A training process that runs out of memory fails by itself, and would be the first to go: what serves serves on."""

import asyncio
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from alignment.errors import AlignmentError
from alignment.jobs.client import trainer_process
from alignment.jobs.contracts import TrainJob
from gateway.agent.process import free_port
from gateway.contracts.release import BaseModelRef
from gateway.contracts.tensor_file import read_tensors
from gateway.contracts.training import TrainingOptions

LIMIT_BYTES = 5 << 28
TOKENS = 8_000_000
WORDS = 100


@pytest.fixture
def engine(tmp_path: Path) -> "Iterator[tuple[subprocess.Popen[bytes], str]]":
    """An engine, and where it listens."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    port = free_port(None)
    command = ("-m", "gateway.engines.scripted", "--model", str(model), "--port", str(port), "--chunk-seconds", "0.02")
    process = subprocess.Popen([sys.executable, *command])
    yield process, f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=30)


async def words_streamed(url: str) -> int:
    """How many words an answer has that takes some seconds."""
    prompt = {"role": "user", "content": f"[words:{WORDS}]"}
    body = {"model": "weights", "messages": [prompt], "stream": True}
    count = 0
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/chat/completions", json=body) as reply:
        async for line in reply.content:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                count += bool(choices and choices[0]["delta"].get("content"))
    return count


async def until_up(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{url}/health") as reply:
                assert reply.status == 200
                return
        except aiohttp.ClientError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


def too_large(model: Path, folder: Path) -> Path:
    """The model with 8 million tokens: 2 GB of weights, all of them holes in a file."""
    shutil.copytree(model, folder)
    config = json.loads((model / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": TOKENS}))
    header, end = {}, 0
    for name, tensor in read_tensors(model / "model.safetensors").items():
        shape = [TOKENS, *tensor.shape[1:]] if "embed_tokens" in name else tensor.shape
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder


async def test_a_training_process_that_runs_out_of_memory_leaves_an_open_stream_alone(
    engine: "tuple[subprocess.Popen[bytes], str]", tiny_model: Path, tmp_path: Path
) -> None:
    process, url = engine
    await until_up(url)
    pairs = tmp_path / "pairs.jsonl"
    sides = {"chosen": "blue " * 40, "rejected": "red " * 40}
    rows = [{"prompt": f"colour {number} {'x' * 200}", **sides} for number in range(64)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = TrainJob(
        base_folder=tiny_model,
        base=BaseModelRef(model="owner/model", revision="r1", weights_sha256="0" * 64),
        options=TrainingOptions(device="cpu", max_steps=1, pairs_per_step=64, tokens_per_batch=40_000),
        pairs_file=pairs,
        folder=tmp_path / "run",
    )
    larger = job.model_copy(update={"base_folder": too_large(tiny_model, tmp_path / "large")})
    async with trainer_process(tmp_path / "trainer.log", ["--memory-bytes", str(LIMIT_BYTES)]) as trainer:
        training = asyncio.create_task(trainer.train(larger, lambda _: None))
        while not training.done():
            assert await words_streamed(url) == WORDS
        with pytest.raises(AlignmentError, match=r"memory ran out before or between steps .* train a smaller model"):
            await training
        trained = await trainer.train(job, lambda _: None)
        assert any(reason.startswith("memory ran out: from then on at most") for reason in trained.reasons)
        limits = Path(f"/proc/{trainer.pid}/limits").read_text()
        assert str(LIMIT_BYTES) in next(line for line in limits.splitlines() if line.startswith("Max data size"))
        first, last = (int(Path(f"/proc/{pid}/oom_score").read_text()) for pid in (trainer.pid, process.pid))
        assert first > last  # and if the machine itself runs out, Linux begins there
    assert await words_streamed(url) == WORDS
    assert process.poll() is None
