"""Two engines by URL behind one alias: conversations stick, failures go round, a broken pool is refused fast."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import select, update

from gateway.storage.routing_state import bump_epoch
from gateway.storage.tables import Replica
from tests.end_to_end.engine_stub import KEY, Call, StubEngine, stack_over_stub, stub_engine
from tests.patience import patient
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
        assert max(seconds for _, _, seconds, _ in answers) < patient(1)


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
        assert sorted(seconds for _, _, seconds, _ in refused)[len(refused) // 2] < patient(0.05)
        one.behaviour = two.behaviour = reply
        recovered = time.monotonic()
        await stack.until(lambda: answered(stack), 30)
        assert time.monotonic() - recovered < 30


async def answered(stack: Stack) -> bool:
    return (await ask(stack))[0] == 200


async def test_who_waits_for_a_replica_when_the_time_to_drain_is_over_is_told(tmp_path: Path) -> None:
    async with stack_over_stub(tmp_path, drain_seconds=1.0) as (stack, _):
        async with stack.database.write() as session:  # an engine with an agent, which is starting it
            await session.execute(update(Replica).values(managed=True, phase="starting"))
            await bump_epoch(session)
        await stack.until(lambda: not_ready(stack))
        waiting = [asyncio.create_task(ask(stack)) for _ in range(5)]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in waiting)
        worker = stack.supervisor._processes["gateway-1"]
        began = time.monotonic()
        os.kill(worker.pid, signal.SIGTERM)
        for status, body, _, retry_after in await asyncio.gather(*waiting):
            assert (status, body["error"]["code"]) == (503, "server_shutting_down")
            assert int(retry_after or 0) >= 1
        assert time.monotonic() - began > 0.9
        assert await asyncio.wait_for(worker.wait(), 5) == 0


async def not_ready(stack: Stack) -> bool:
    return not await stack.ready()


async def test_killing_one_of_two_engines_costs_no_request(tmp_path: Path) -> None:
    model = {"model": str(tmp_path / "model"), "replicas": 2, "engine": {"kind": "scripted"}}
    async with running(stack_settings(tmp_path, models=[model])) as stack:
        await stack.until(lambda: both_ready(stack))
        statuses: list[int] = []

        async def keep_asking(lane: int) -> None:
            while True:
                statuses.append((await ask(stack, f"lane {lane}"))[0])

        lanes = [asyncio.create_task(keep_asking(lane)) for lane in range(4)]
        for replica in ("assistant-1", "assistant-2"):
            record = json.loads((stack.settings.data_dir / "engines" / f"{replica}.json").read_text())
            os.kill(int(record["pid"]), signal.SIGKILL)
            await asyncio.sleep(0.5)
            await stack.until(lambda: both_ready(stack))
        for lane_task in lanes:
            lane_task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    assert len(statuses) > 50
    assert set(statuses) == {200}


async def both_ready(stack: Stack) -> bool:
    async with stack.database.read() as session:
        return list(await session.scalars(select(Replica.phase))) == ["ready", "ready"]
