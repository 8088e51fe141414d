"""A worker as a process: it drains in words, keeps strangers out, and records whatever was said on either database."""

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import openai
import pytest
from sqlalchemy import select

from gateway.sections.serving import ServerSettings
from gateway.storage.feedback_tables import Completion
from tests.end_to_end.engine_stub import (
    Call,
    StubEngine,
    address,
    asked,
    delta,
    events_of,
    last_record,
    never,
    stack_over_stub,
)
from tests.patience import patient
from tests.stack import ADMIN_KEY, Stack


async def test_a_nul_in_prompt_answer_and_parameters_is_recorded(tmp_path: Path, database_url: str) -> None:
    async def nul(call: Call) -> None:
        await call.say(delta("be\0fore"), delta("", "stop"), "[DONE]")

    async with stack_over_stub(tmp_path, database_url) as (stack, engine):
        engine.behaviour = nul
        fields = {"messages": [{"role": "user", "content": "a\0b"}], "stop": ["x\0y"], "metadata": {"k": "v\0"}}
        async with asked(stack, **fields) as response:
            events = await events_of(response)
        assert events[-1] == "[DONE]"
        assert events[0]["choices"][0]["delta"]["content"] == "be\0fore"
        record = await last_record(stack, engine)
    assert record.status == "finished"
    assert record.messages[0]["content"] == "a\ufffdb"
    assert record.choices[0]["message"]["content"] == "be\ufffdfore"
    assert record.parameters["stop"] == ["x\ufffdy"]
    assert record.call_metadata == {"k": "v\ufffd"}


async def test_when_the_time_to_drain_is_over_every_client_is_told(tmp_path: Path) -> None:
    async def go_on_for_ever(call: Call) -> None:
        if call.body.get("stream"):
            await call.say(delta("heard"))
        await never(call)

    async with stack_over_stub(tmp_path, drain_seconds=1.0) as (stack, engine):
        engine.behaviour = go_on_for_ever
        worker = stack.supervisor._processes["gateway-1"]
        whole = asyncio.create_task(status_of_whole(stack))
        async with asked(stack) as response:
            await response.content.readline()
            await stack.until(lambda: two_calls(engine))
            os.kill(worker.pid, signal.SIGTERM)
            events = await asyncio.wait_for(events_of(response), patient(3))
        assert [event["error"]["code"] for event in events] == ["server_shutting_down"]
        assert await whole == (503, "server_shutting_down")
        assert await asyncio.wait_for(worker.wait(), 5) == 0
        async with stack.database.read() as session:
            records = (await session.scalars(select(Completion))).all()
    assert [record.status for record in records] == ["failed", "failed"]
    assert {"heard"} == {choice["message"]["content"] for record in records for choice in record.choices}


async def two_calls(engine: StubEngine) -> bool:
    return len(engine.calls) == 2


async def status_of_whole(stack: Stack) -> tuple[int, str]:
    async with asked(stack, stream=False) as response:
        return response.status, (await response.json())["error"]["code"]


async def test_a_draining_worker_is_not_ready_at_once_and_finishes_open_streams(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def pause(call: Call) -> None:
        await call.say(delta("one"))
        await go_on.wait()
        await call.say(delta(" two", "stop"), "[DONE]")

    async with stack_over_stub(tmp_path) as (stack, engine):
        engine.behaviour = pause
        worker = stack.supervisor._processes["gateway-1"]
        async with asked(stack) as response:
            await response.content.readline()
            reader, writer = await asyncio.open_connection(*address(stack))
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\n")
            await asyncio.sleep(0.2)
            os.kill(worker.pid, signal.SIGTERM)
            writer.write(b"\r\n")
            assert (await asyncio.wait_for(reader.readline(), 2)).split()[1] == b"503"
            writer.close()
            go_on.set()
            assert (await events_of(response))[-1] == "[DONE]"
        assert await asyncio.wait_for(worker.wait(), 5) == 0


async def test_a_resting_connection_outlives_what_clients_keep_theirs_for(tmp_path: Path) -> None:
    assert ServerSettings().keep_alive_seconds > 2 * (httpx.Limits().keepalive_expiry or 0)
    async with stack_over_stub(tmp_path, keep_alive_seconds=2) as (stack, _):
        reader, writer = await asyncio.open_connection(*address(stack))
        for pause_seconds in (1.0, 0.0):
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b" 200 " in (await reader.readuntil(b"\r\n\r\n"))
            await reader.readuntil(b"}")
            await asyncio.sleep(pause_seconds)
        began = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert time.monotonic() - began > 1.0
        writer.close()


@pytest.mark.parametrize(("path", "status"), [("/healthz", b"405"), ("/v1/chat/completions", b"400")])
async def test_a_request_that_came_while_the_worker_was_held_up_is_answered(
    tmp_path: Path, path: str, status: bytes
) -> None:
    """The rest of its connection was over by the time the worker looked, and the request was there."""
    body = b'{"model":"assistant"}'
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    async with stack_over_stub(tmp_path, keep_alive_seconds=1) as (stack, _):
        pid = stack.supervisor.pid("gateway-1")
        assert pid is not None
        reader, writer = await asyncio.open_connection(*address(stack))
        statuses = []
        for held_up_seconds in (0.0, 1.5):
            if held_up_seconds:
                await asyncio.sleep(0.3)  # the connection is at rest
                os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(held_up_seconds)
            writer.write(request)
            os.kill(pid, signal.SIGCONT)
            answer_head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = int(answer_head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            statuses.append(answer_head.split()[1])
        assert statuses == [status, status]
        writer.close()


async def test_without_keys_only_programs_on_this_machine_are_let_in(tmp_path: Path) -> None:
    async with stack_over_stub(tmp_path, auth="off") as (stack, _):
        client = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="EMPTY", max_retries=0)
        async with client:
            assert [model.id async for model in client.models.list()] == ["assistant"]
            for headers, code in (
                ({"host": "evil.example"}, "foreign_host"),
                ({"origin": "http://evil.example"}, "foreign_origin"),
                ({"origin": "null"}, "foreign_origin"),
            ):
                with pytest.raises(openai.PermissionDeniedError) as refused:
                    await client.models.list(extra_headers=headers)
                assert refused.value.code == code
