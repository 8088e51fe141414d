"""Clients by the hundred that dawdle, leave, or ask too much: everybody else is served as if they were not there."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from sqlalchemy import select

from gateway.storage.feedback_tables import Completion
from tests.end_to_end.engine_stub import (
    KEY,
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
LINE_ENDS = b"\r\n\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, StubEngine]]:
    server = {"workers": 2, "receipt_seconds": 5.0, "stall_seconds": 5.0}
    async with stack_over_stub(tmp_path_factory.mktemp("abuse"), **server) as made:
        yield made


@pytest.fixture
def stack(both: tuple[Stack, StubEngine]) -> Stack:
    return both[0]


@pytest.fixture
def engine(both: tuple[Stack, StubEngine]) -> StubEngine:
    both[1].forget()
    both[1].behaviour = say_hello
    return both[1]


def request_bytes(**fields: object) -> bytes:
    body = json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "hi"}]} | fields).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def resident_bytes(stack: Stack) -> int:
    pids = [stack.supervisor.pid(f"gateway-{number}") for number in (1, 2)]
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


async def dawdle(stack: Stack, number: int, engine_says: int) -> None:
    """Be slow with the head, the body, or the answer."""
    reader, writer = await asyncio.open_connection(*address(stack))
    try:
        request = request_bytes(stream=True)
        if number % 3 == 2:
            writer.write(request)
            for _ in range(engine_says):
                await reader.read(500)
                await asyncio.sleep(0.1)
            return
        at_once = 10 if number % 3 == 0 else request.index(LINE_ENDS) + 4
        writer.write(request[:at_once])
        for byte in request[at_once:]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)
    except ConnectionError:
        pass  # cut off, as it should be
    finally:
        writer.transport.abort()


async def test_two_hundred_slow_clients_do_no_harm_to_others(stack: Stack, engine: StubEngine) -> None:
    async def chatter(call: Call) -> None:
        if call.body["messages"][0]["content"] == "hi":
            for _ in range(40):
                await call.say(delta("y" * 2000))
        await call.say(delta("hello"), delta("", "stop"), "[DONE]")

    engine.behaviour = chatter
    crowd = [asyncio.create_task(dawdle(stack, number, 40)) for number in range(200)]
    await asyncio.sleep(0.5)
    seconds: list[float] = []
    async with aiohttp.ClientSession(stack.url, headers=KEY) as session:

        async def look() -> None:
            for _ in range(40):
                began = time.monotonic()
                async with session.get("/healthz") as response:
                    assert response.status == 200
                seconds.append(time.monotonic() - began)
                await asyncio.sleep(0.05)

        async def ask(number: int) -> str:
            fields = {"messages": [{"role": "user", "content": f"ordinary {number}"}]}
            async with asked(stack, **fields) as response:
                events = await events_of(response)
            assert events[-1] == "[DONE]"
            return "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])

        _, *answers = await asyncio.gather(look(), *(ask(number) for number in range(20)))
    for one in crowd:
        one.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert answers == ["hello"] * 20
    assert max(seconds) < patient(2)


async def test_a_hundred_clients_that_leave_in_mid_stream_stop_a_hundred_generations(
    stack: Stack, engine: StubEngine
) -> None:
    async def go_on(call: Call) -> None:
        await call.say(delta("heard"))
        await never(call)

    engine.behaviour = go_on
    lines = [await asyncio.open_connection(*address(stack)) for _ in range(100)]
    for _, writer in lines:
        writer.write(request_bytes(stream=True))
    await asyncio.gather(*(asyncio.wait_for(reader.readuntil(b"heard"), 10) for reader, _ in lines))
    assert len(engine.calls) == 100
    for _, writer in lines:
        writer.transport.abort()
    await asyncio.gather(*(asyncio.wait_for(call.cancelled.wait(), patient(1)) for call in engine.calls))

    async def all_recorded() -> bool:
        async with stack.database.read() as session:
            found = await session.scalars(select(Completion.status).where(Completion.created_at >= engine.since))
            return list(found) == ["aborted"] * 100

    await stack.until(all_recorded, patient(5))


async def test_an_engine_that_dies_in_mid_stream_is_one_error_event_and_no_end(
    stack: Stack, engine: StubEngine
) -> None:
    async def die(call: Call) -> None:
        await call.say(delta("half"))
        call.hang_up()

    engine.behaviour = die
    async with asyncio.timeout(patient(2)), asked(stack) as response:
        events = await events_of(response)
    assert [set(event) == {"error"} for event in events] == [False, True]
    assert events[0]["choices"][0]["finish_reason"] is None
    assert events[1]["error"]["code"] == "upstream_error"
    assert (await last_record(stack, engine)).status == "failed"


async def test_an_answer_that_is_not_to_be_stored_leaves_no_row(stack: Stack, engine: StubEngine) -> None:
    for stream in (True, False):

        async def answer(call: Call) -> None:
            if call.body.get("stream"):
                await say_hello(call)
            else:
                await call.reply({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]})

        engine.behaviour = answer
        async with asked(stack, stream=stream, store=False) as response:
            assert b"hello" in await response.read()
    await asyncio.sleep(0.2)
    async with stack.database.read() as session:
        assert not (await session.scalars(select(Completion.id).where(Completion.created_at >= engine.since))).all()


async def test_a_vote_right_after_an_answer_is_found_by_whichever_worker_gets_it(
    stack: Stack, engine: StubEngine
) -> None:
    async def answer(call: Call) -> None:
        await call.reply({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]})

    engine.behaviour = answer
    statuses = []
    body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}
    connector = aiohttp.TCPConnector(force_close=True)  # the system gives each connection to either worker
    async with aiohttp.ClientSession(stack.url, headers=KEY, connector=connector) as session:
        for _ in range(200):
            async with session.post("/v1/chat/completions", json=body) as response:
                completion = (await response.json())["id"]
            async with session.post("/v1/feedback", json=vote_on(completion)) as response:
                statuses.append(response.status)
    assert set(statuses) == {201}
    assert len(statuses) == 200


def vote_on(completion: str) -> dict[str, object]:
    better = {"role": "assistant", "content": "Hello to you, too."}
    return {"type": "correction", "target": {"completion_id": completion}, "message": better}


async def test_ten_times_too_much_is_refused_with_a_time_to_come_again_and_takes_no_memory(
    stack: Stack, engine: StubEngine
) -> None:
    go_on, open_at_once = asyncio.Event(), 20
    _, key = await stack.call("POST", "/admin/v1/keys", {"name": "greedy", "streams": open_at_once})

    async def wait(call: Call) -> None:
        await go_on.wait()
        await say_hello(call)

    engine.behaviour = wait
    before = resident_bytes(stack)
    statuses: list[int] = []

    async def ask(session: aiohttp.ClientSession) -> None:
        body = {"model": "assistant", "messages": [{"role": "user", "content": "z" * 20_000}], "stream": True}
        async with session.post("/v1/chat/completions", json=body) as response:
            statuses.append(response.status)
            if response.status == 429:
                assert (await response.json())["error"]["code"] == "rate_limit_exceeded"
                assert int(response.headers["retry-after"]) >= 1
                if len(statuses) == 9 * open_at_once:
                    go_on.set()
            else:
                assert (await events_of(response))[-1] == "[DONE]"

    headers = {"authorization": f"Bearer {key['key']}"}
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession(stack.url, headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        await asyncio.gather(*(ask(session) for _ in range(10 * open_at_once)))
    assert (statuses.count(429), statuses.count(200)) == (9 * open_at_once, open_at_once)
    assert len(engine.calls) == open_at_once
    assert resident_bytes(stack) - before < 30 << 20


async def test_workers_told_to_stop_say_so_end_their_streams_and_leave_in_good_order(
    stack: Stack, engine: StubEngine
) -> None:
    go_on = asyncio.Event()

    async def wait(call: Call) -> None:
        await call.say(delta("one"))
        await go_on.wait()
        await call.say(delta(" two"), delta("", "stop"), "[DONE]")

    engine.behaviour = wait
    workers = [stack.supervisor._processes[f"gateway-{number}"] for number in (1, 2)]
    streams = [await asyncio.open_connection(*address(stack)) for _ in range(12)]
    for _, writer in streams:
        writer.write(request_bytes(stream=True))
    await asyncio.gather(*(asyncio.wait_for(reader.readuntil(b"one"), 10) for reader, _ in streams))
    probes = [await asyncio.open_connection(*address(stack)) for _ in range(12)]
    for _, writer in probes:
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\n")  # but for the last line end
    await asyncio.sleep(0.2)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for _, writer in probes:
        writer.write(b"\r\n")
    statuses = []
    async with asyncio.timeout(patient(1)):
        for reader, _ in probes:
            with suppress(asyncio.IncompleteReadError, ConnectionError):  # closed before it had asked
                statuses.append(int((await reader.readuntil(LINE_ENDS)).split()[1]))
    assert set(statuses) == {503}
    go_on.set()
    for reader, _ in streams:
        assert b"data: [DONE]" in await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
    assert [await asyncio.wait_for(worker.wait(), 10) for worker in workers] == [0, 0]
    for _, writer in (*streams, *probes):
        writer.close()
