"""LMDeploy's real API server where it takes no weights while it runs: a second one takes over, an open stream ends."""

import asyncio
import json
import shutil
from pathlib import Path

import aiohttp
import pytest

from gateway.contracts.ids import WEIGHTS_NAME
from gateway.contracts.seal import write_seal
from gateway.settings import EngineSettings
from tests.gateway.agent.lab import Lab
from tests.gateway.agent.test_supervisor import supervise
from tests.gateway.engines.lmdeploy_servers import write_model, write_python

pytestmark = [pytest.mark.lmdeploy, pytest.mark.timeout(600)]

ARGUMENTS = ("--device", "ascend", "--max-batch-size", "4", "--session-len", "256")
STUB = {"STUB_ENGINE": "transformers", "OMP_NUM_THREADS": "1", "STUB_STEP_SECONDS": "0.1"}
TOKENS = 20
PATIENCE_SECONDS = 300.0


async def stream(url: str) -> str:
    """What the engine at `url` writes, read as it comes."""
    asked = {"messages": [{"role": "user", "content": "Say hello."}], "temperature": 0, "ignore_eos": True}
    body = asked | {"model": WEIGHTS_NAME, "max_tokens": TOKENS, "stream": True}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as response:
        lines = [line[6:].strip() async for line in response.content if line.startswith(b"data: ")]
    assert lines[-1] == b"[DONE]"
    text = "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines[:-1])
    assert len(text) == TOKENS
    return text


async def test_a_second_server_takes_over_while_a_stream_of_the_first_one_ends(lab: Lab, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "base")
    write_model(tmp_path / "base", 1)
    release_id = await lab.release("second")
    for part in ("merged", "adapter"):
        shutil.rmtree(lab.store / release_id / part)
    write_model(lab.store / release_id / "merged", 2)
    write_seal(lab.store / release_id, release_id)
    lab.engine = EngineSettings(kind="lmdeploy", python=write_python(tmp_path), args=ARGUMENTS, environment=STUB)
    supervisor, _ = supervise(lab, lab.database)
    work = asyncio.create_task(supervisor.run())
    try:
        first = await lab.until(PATIENCE_SECONDS, phase="ready", in_place=False)
        url = str(first.url)
        before = await stream(url)
        await lab.worker(0, {url: 1})
        await lab.begin_beside(release_id)
        heard = []
        while (await lab.row()).swap_state == "beside":  # the last of them is open while the other takes over
            heard.append(await stream(url))
        second = await lab.until(weights_release_id=release_id, phase="ready")
        assert second.url != url
        assert await stream(str(second.url)) != before
        assert set(heard) == {before}
        await lab.worker(1000, {})
        while await answers(url):
            await asyncio.sleep(0.1)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await supervisor.shut_down()


async def answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/models"):
            return True
    except aiohttp.ClientError:
        return False
