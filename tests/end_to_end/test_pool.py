"""Two engines by URL behind one alias: conversations stick, failures go round, a broken pool is refused fast."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.end_to_end.engine_stub import KEY, Call, StubEngine, stub_engine
from tests.stack import Stack, running, stack_settings


@asynccontextmanager
async def two_engines(folder: Path, **pool: Any) -> AsyncIterator[tuple[Stack, StubEngine, StubEngine]]:
    async with stub_engine() as one, stub_engine() as two:
        engine = {"kind": "url", "urls": [one.url, two.url]}
        settings = stack_settings(folder, models=[{"model": str(folder / "model"), "engine": engine}], pool=pool)
        async with running(settings) as stack:
            yield stack, one, two


async def ask(stack: Stack, prompt: str = "hi") -> tuple[int, dict[str, Any], float, str | None]:
    body = {"model": "assistant", "messages": [{"role": "user", "content": prompt}]}
    async with aiohttp.ClientSession(headers=KEY) as session:
        began = time.monotonic()
        async with session.post(f"{stack.url}/v1/chat/completions", json=body) as response:
            answer = json.loads(await response.read())
            return response.status, answer, time.monotonic() - began, response.headers.get("retry-after")


async def reply(call: Call) -> None:
    message = {"role": "assistant", "content": "hello"}
    await call.reply({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


async def hang_up(call: Call) -> None:
    call.hang_up()


async def test_an_engine_that_hangs_up_costs_no_request_while_another_answers(tmp_path: Path) -> None:
    async with two_engines(tmp_path) as (stack, one, two):
        one.behaviour, two.behaviour = hang_up, reply
        answers = [await ask(stack, f"prompt {number}") for number in range(20)]
        assert [status for status, *_ in answers] == [200] * 20
        assert 1 <= len(one.calls) <= 6
        assert max(seconds for _, _, seconds, _ in answers) < 1.0


async def test_with_every_circuit_open_requests_are_refused_fast_and_served_again_within_30_seconds(
    tmp_path: Path,
) -> None:
    async with two_engines(tmp_path, circuit_open_seconds=1.0) as (stack, one, two):
        one.behaviour = two.behaviour = hang_up
        async with asyncio.timeout(30):
            while (await ask(stack))[1]["error"]["code"] != "circuit_open":
                await asyncio.sleep(0.01)
        refused = [answer for _ in range(10) if (answer := await ask(stack))[1]["error"]["code"] == "circuit_open"]
        assert len(refused) >= 8  # one in a while may be a trial
        for status, _, _, retry_after in refused:
            assert status == 503
            assert int(retry_after or 0) >= 1
        assert sorted(seconds for _, _, seconds, _ in refused)[len(refused) // 2] < 0.05
        one.behaviour = two.behaviour = reply
        recovered = time.monotonic()
        await stack.until(lambda: answered(stack), 30)
        assert time.monotonic() - recovered < 30


async def answered(stack: Stack) -> bool:
    return (await ask(stack))[0] == 200
