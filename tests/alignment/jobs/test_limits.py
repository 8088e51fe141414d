"""A training process that runs out of memory fails by itself, and would be the first to go: what serves serves on."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from alignment.errors import AlignmentError
from alignment.jobs.client import trainer_process
from alignment.jobs.contracts import MergeJob
from gateway.agent.process import free_port

LIMIT_BYTES = 150 << 20
"""Of a process that trains nothing yet; torch alone takes four times as much."""
WORDS = 300


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


async def test_a_training_process_that_runs_out_of_memory_leaves_an_open_stream_alone(
    engine: "tuple[subprocess.Popen[bytes], str]", tmp_path: Path
) -> None:
    process, url = engine
    await until_up(url)
    stream = asyncio.create_task(words_streamed(url))
    job = MergeJob(base_folder=tmp_path, adapter=tmp_path / "absent", merged_folder=tmp_path / "merged")
    async with trainer_process(tmp_path / "trainer.log", ["--memory-bytes", str(LIMIT_BYTES)]) as trainer:
        with pytest.raises(AlignmentError, match=r"memory ran out .* free some, train a smaller model"):
            await trainer.merge(job)
        limits = Path(f"/proc/{trainer.pid}/limits").read_text()
        assert str(LIMIT_BYTES) in next(line for line in limits.splitlines() if line.startswith("Max data size"))
        first, last = (int(Path(f"/proc/{pid}/oom_score").read_text()) for pid in (trainer.pid, process.pid))
        assert first > last  # and if the machine itself runs out, Linux begins there
    assert await stream == WORDS
    assert process.poll() is None
