"""However an engine, a client or the server breaks off: the client is told, the engine stops, the record is true."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

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
    say_hello,
    stack_over_stub,
)
from tests.patience import patient
from tests.stack import ADMIN_KEY, Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
        await asyncio.wait_for(engine.calls[0].cancelled.wait(), patient(1))
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
    answer = asyncio.create_task(reader.read())
    sent = 0
    with suppress(ConnectionError):  # what was still under way can cost a client the answer, never us memory
        while not answer.done() and sent < 1 << 20:
            writer.write(b"x" * 4096)
            await writer.drain()
            sent += 4096
            await asyncio.sleep(0.02)
        assert (await answer).split()[1] == b"431"
    assert sent < 1 << 20
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


async def raw(stack: Stack, sent: bytes) -> tuple[int, dict[str, Any]]:
    reader, writer = await asyncio.open_connection(*address(stack))
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)
