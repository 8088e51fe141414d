"""However an engine, a client or the server breaks off: the client is told, the engine stops, the record is true."""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from sqlalchemy import select

from gateway.storage.tables import Completion
from tests.end_to_end.engine_stub import Call, StubEngine, delta, never, say_hello, stub_engine
from tests.stack import ADMIN_KEY, Stack, running, stack_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = {"authorization": f"Bearer {ADMIN_KEY}"}


@asynccontextmanager
async def stack_over_stub(
    folder: Path, url: str | None = None, **server: Any
) -> AsyncIterator[tuple[Stack, StubEngine]]:
    async with stub_engine() as engine:
        model = {"model": str(folder / "model"), "engine": {"kind": "url", "url": engine.url}}
        async with running(stack_settings(folder, url, models=[model], server=server)) as stack:
            yield stack, engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, StubEngine]]:
    async with stack_over_stub(tmp_path_factory.mktemp("streams"), receipt_seconds=1.0) as made:
        yield made


@pytest.fixture
def stack(both: tuple[Stack, StubEngine]) -> Stack:
    return both[0]


@pytest.fixture
def engine(both: tuple[Stack, StubEngine]) -> Iterator[StubEngine]:
    both[1].forget()
    yield both[1]
    both[1].behaviour = say_hello


@asynccontextmanager
async def asked(stack: Stack, **fields: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "stream": True} | fields
    async with (
        aiohttp.ClientSession(headers=KEY) as session,
        session.post(f"{stack.url}/v1/chat/completions", json=body) as response,
    ):
        yield response


async def events_of(response: aiohttp.ClientResponse) -> list[Any]:
    lines = [line async for line in response.content]
    data = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    return [item.decode() if item == b"[DONE]" else json.loads(item) for item in data]


async def last_record(stack: Stack, engine: StubEngine) -> Completion:
    found: Completion | None = None

    async def there() -> bool:
        nonlocal found
        async with stack.database.read() as session:
            found = await session.scalar(select(Completion).order_by(Completion.created_at.desc()).limit(1))
        return found is not None and found.created_at >= engine.since

    await stack.until(there, 5)
    assert found is not None
    return found


def no_content_lost(record: Completion, said: str) -> None:
    assert record.choices[0]["message"]["content"] == said


@contextmanager
def locked(stack: Stack) -> Iterator[None]:
    connection = sqlite3.connect(stack.settings.data_dir / "alignway.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def test_the_first_word_does_not_wait_for_the_second(stack: Stack, engine: StubEngine) -> None:
    go_on = asyncio.Event()

    async def pause_after_one(call: Call) -> None:
        await call.say(delta("one"))
        await go_on.wait()
        await call.say(delta(" two"), delta("", "stop"), "[DONE]")

    engine.behaviour = pause_after_one
    async with asked(stack) as response:
        first = await asyncio.wait_for(response.content.readline(), 2)
        assert json.loads(first[5:])["choices"][0]["delta"]["content"] == "one"
        go_on.set()
        assert (await events_of(response))[-1] == "[DONE]"


async def test_usage_that_the_engine_left_out_is_counted_as_zero(stack: Stack, engine: StubEngine) -> None:
    async with asked(stack, stream_options={"include_usage": True}) as response:
        events = await events_of(response)
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert events[-2]["usage"] == zero
    assert (await last_record(stack, engine)).usage == zero


@pytest.mark.parametrize(
    "nonsense",
    [
        {"choices": [7]},
        delta(7),
        {"choices": [{"index": "x", "delta": {}}]},
        {"choices": [{"index": 0, "delta": "text"}]},
        {"choices": None},
        "{",
        {"error": {"message": "out of memory"}},
    ],
)
async def test_nonsense_in_mid_stream_is_one_error_event_and_a_failed_record(
    stack: Stack, engine: StubEngine, nonsense: Any
) -> None:
    async def babble(call: Call) -> None:
        await call.say(delta("sense"), nonsense, delta("more", "stop"), "[DONE]")

    engine.behaviour = babble
    async with asked(stack) as response:
        events = await events_of(response)
    assert [set(event) == {"error"} for event in events] == [False, True]
    assert events[1]["error"]["code"] == "upstream_error"
    record = await last_record(stack, engine)
    assert record.status == "failed"
    no_content_lost(record, "sense")


@pytest.mark.parametrize("choices", [1, 2])
async def test_done_without_a_finish_reason_is_an_error_and_no_done(
    stack: Stack, engine: StubEngine, choices: int
) -> None:
    async def stop_short(call: Call) -> None:
        await call.say(delta("half", "stop" if choices == 2 else None), "[DONE]")

    engine.behaviour = stop_short
    async with asked(stack, n=choices) as response:
        events = await events_of(response)
    assert set(events[-1]) == {"error"}
    assert (await last_record(stack, engine)).status == "failed"


async def test_a_stream_that_ends_before_it_begins_is_a_502(stack: Stack, engine: StubEngine) -> None:
    async def nothing(call: Call) -> None:
        await call.say("[DONE]")

    engine.behaviour = nothing
    async with asked(stack) as response:
        assert response.status == 502
        assert (await response.json())["error"]["code"] == "upstream_error"


@pytest.mark.parametrize("choice", [{"message": {"content": "half"}}, {"message": 5, "finish_reason": "stop"}, 5])
async def test_a_whole_reply_that_is_none_is_a_502_and_a_failed_record(
    stack: Stack, engine: StubEngine, choice: Any
) -> None:
    async def odd(call: Call) -> None:
        await call.reply({"choices": [choice]})

    engine.behaviour = odd
    async with asked(stack, stream=False) as response:
        assert response.status == 502
        assert (await response.json())["error"]["code"] == "upstream_error"
    assert (await last_record(stack, engine)).status == "failed"


async def test_a_request_that_engines_hang_up_on_is_sent_twice_at_most(stack: Stack, engine: StubEngine) -> None:
    async def die(call: Call) -> None:
        call.hang_up()

    for streamed in (True, False):
        engine.forget()
        engine.behaviour = die
        async with asked(stack, stream=streamed) as response:
            assert response.status == 502
            assert (await response.json())["error"]["code"] == "upstream_disconnected"
        assert len(engine.calls) == 2


async def test_a_client_that_leaves_stops_the_engine_though_the_database_is_locked(
    stack: Stack, engine: StubEngine
) -> None:
    async def go_on_for_ever(call: Call) -> None:
        await call.say(delta("heard"))
        await never(call)

    engine.behaviour = go_on_for_ever
    with locked(stack):
        async with asked(stack) as response:
            await response.content.readline()
            left = time.monotonic()
        await asyncio.wait_for(engine.calls[0].cancelled.wait(), 1.0)
        assert time.monotonic() - left < 1.0
    record = await last_record(stack, engine)
    assert record.status == "aborted"
    no_content_lost(record, "heard")


async def test_a_client_that_leaves_before_the_first_word_stops_the_engine(stack: Stack, engine: StubEngine) -> None:
    engine.behaviour = never
    for streamed in (True, False):
        engine.forget()
        asking = asyncio.create_task(enter(stack, streamed))
        await stack.until(lambda: called(engine))
        asking.cancel()
        await asyncio.wait_for(engine.calls[0].cancelled.wait(), 1.0)
        assert (await last_record(stack, engine)).status == "aborted"


async def enter(stack: Stack, streamed: bool) -> None:
    async with asked(stack, stream=streamed):
        pass


async def called(engine: StubEngine) -> bool:
    return bool(engine.calls)


async def test_an_error_is_told_before_the_record_is_waited_for(stack: Stack, engine: StubEngine) -> None:
    async def die(call: Call) -> None:
        await call.say(delta("half"))
        call.hang_up()

    engine.behaviour = die
    with locked(stack):
        async with asked(stack) as response:
            lines = [await asyncio.wait_for(response.content.readline(), 1.0) for _ in range(3)]
    assert "error" in json.loads(lines[2][5:])


async def test_an_answer_is_sent_and_counted_when_its_record_cannot_be_written(
    stack: Stack, engine: StubEngine
) -> None:
    async def unrecorded() -> float:
        async with aiohttp.ClientSession() as session, session.get(f"{stack.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return float(
            next(line for line in lines if line.startswith("alignway_completions_unrecorded_total")).split()[1]
        )

    before = await unrecorded()
    with locked(stack):
        async with asked(stack) as response:
            assert (await events_of(response))[-1] == "[DONE]"
    assert await unrecorded() == before + 1


async def test_headers_over_the_limit_are_refused_in_the_envelope(stack: Stack) -> None:
    for head in (b"GET /healthz HTTP/1.1\r\nhost: x\r\na: " + b"x" * 20_000 + b"\r\n\r\n",
                 b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n"):  # fmt: skip
        status, body = await raw(stack, head)
        assert status == 431
        assert body["error"]["code"] == "headers_too_large"


async def test_a_header_without_end_is_refused_before_it_fills_memory(stack: Stack) -> None:
    reader, writer = await asyncio.open_connection(*address(stack))
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\na: ")
    sent = 0
    while not reader.at_eof() and sent < (8 << 20) and not reader._buffer:  # type: ignore[attr-defined]
        writer.write(b"x" * 4096)
        sent += 4096
        await asyncio.sleep(0)
    assert (await reader.readline()).split()[1] == b"431"
    assert sent < 8 << 20
    writer.close()


async def test_headers_and_bodies_that_come_too_slowly_are_refused(stack: Stack) -> None:
    for begun in (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
        + ADMIN_KEY.encode()
        + b'\r\ncontent-length: 100\r\n\r\n{"model"',
    ):
        status, body = await raw(stack, begun)
        assert status == 408
        assert body["error"]["code"] == "request_timeout"


async def test_what_is_not_http_is_refused_in_the_envelope(stack: Stack) -> None:
    status, body = await raw(stack, b"\x16\x03\x01 nonsense\r\n\r\n")
    assert status == 400
    assert body["error"]["code"] == "invalid_http"


def address(stack: Stack) -> tuple[str, int]:
    return "127.0.0.1", int(stack.url.rpartition(":")[2])


async def raw(stack: Stack, sent: bytes) -> tuple[int, dict[str, Any]]:
    reader, writer = await asyncio.open_connection(*address(stack))
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.asyncio(loop_scope="function")
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


@pytest.mark.asyncio(loop_scope="function")
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
            began = time.monotonic()
            os.kill(worker.pid, signal.SIGTERM)
            events = await asyncio.wait_for(events_of(response), 4)
        assert time.monotonic() - began < 3.0
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


@pytest.mark.asyncio(loop_scope="function")
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


@pytest.mark.asyncio(loop_scope="function")
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
