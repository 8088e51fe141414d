"""Whatever clients do to their connections, each gets one right answer or none, and nothing is left of it."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.relay.served import (
    CHUNK,
    LAST,
    WHOLE,
    Ask,
    Gateway,
    answers_in,
    chat,
    gateway,
    get,
    in_chunks,
    next_answer,
    post,
    silent,
    status_of,
    with_length,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMIT = 50_000
RECEIPT_SECONDS = 1.0
HELLO = {"role": "assistant", "content": "hello"}


@pytest.fixture(scope="module")
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    server = {"body_limit_bytes": LIMIT, "image_body_limit_bytes": LIMIT, "receipt_seconds": RECEIPT_SECONDS}
    async with gateway(tmp_path_factory.mktemp("lane"), server=server) as made:
        await made.send(chat(close=True))  # its key is known from now on
        yield made


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def at_rest_afterwards(worker: Gateway) -> AsyncIterator[None]:
    worker.engine.forget()
    yield
    await worker.is_at_rest()


def said(body: bytes) -> Any:
    return {key: json.loads(body)["choices"][0]["message"][key] for key in HELLO}


def streamed(events: list[bytes]) -> str:
    chunks = [json.loads(event) for event in events[:-1]]
    assert events[-1] == b"[DONE]"
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


# ---- cuts


async def test_a_request_cut_at_every_byte_is_the_same_request(worker: Gateway) -> None:
    request = chat(close=True)
    for at in range(1, len(request), 3):
        async with worker.line() as (reader, writer):
            writer.write(request[:at])
            await asyncio.sleep(0.001)
            writer.write(request[at:])
            assert said((await asyncio.wait_for(next_answer(reader), 5)).body) == HELLO


async def test_requests_byte_by_byte(worker: Gateway) -> None:
    async with worker.line() as (reader, writer):
        for stream in (False, True):
            for byte in chat(stream=stream):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            answer = await asyncio.wait_for(next_answer(reader), 5)
            assert (streamed(answer.events) == "hello") if stream else (said(answer.body) == HELLO)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.lists(st.integers(1, 700), max_size=12), size=st.integers(1, 90), stream=st.booleans())
async def test_cuts_and_chunks_change_nothing(worker: Gateway, cuts: list[int], size: int, stream: bool) -> None:
    body = json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "é" * 40}], "stream": stream})
    head = post(b"", "transfer-encoding: chunked", length=False, close=True)
    request = head + in_chunks(body.encode(), size).partition(b"\r\n\r\n")[2]
    places = sorted({0, *cuts, len(request)})
    blocks = [request[first:second] for first, second in pairwise(places)]
    (answer,) = await answers_in(await worker.send(*blocks))
    assert (streamed(answer.events) == "hello") if stream else (said(answer.body) == HELLO)
    assert worker.engine.asks[-1].body["messages"] == [{"role": "user", "content": "é" * 40}]


# ---- one behind another


async def test_what_comes_behind_an_unanswered_chat_is_not_read(worker: Gateway) -> None:
    for behind in (chat(), get(), b"nonsense\r\n\r\n", b"\x00" * 50, chat()[:40]):
        for blocks in ((chat() + behind,), (chat(), behind), (chat()[:-5], chat()[-5:] + behind)):
            worker.engine.forget()
            answers = await answers_in(await worker.send(*blocks))
            assert [said(answer.body) for answer in answers] == [HELLO]
            assert len(worker.engine.asks) == 1


async def test_a_chat_behind_another_request_is_answered_after_it(worker: Gateway) -> None:
    async with worker.line() as (reader, writer), asyncio.timeout(5):
        writer.write(get() + chat() + get("/readyz"))
        first, second, third = [await next_answer(reader) for _ in range(3)]
    assert (first.body, said(second.body), third.status) == (b'{"status":"ok"}', HELLO, 200)


async def test_a_chat_in_one_block_with_a_refused_one_outlives_the_keep_alive_time(worker: Gateway) -> None:
    async def late(ask: Ask) -> None:
        await asyncio.sleep(5.4)
        await ask.say(with_length(WHOLE))

    worker.engine.behaviour = late
    async with worker.line() as (reader, writer), asyncio.timeout(8):
        writer.write(post(b"{") + chat())
        refused, answer = [await next_answer(reader) for _ in range(2)]
    assert refused.code == "invalid_json"
    assert said(answer.body) == HELLO


async def test_a_client_that_reads_no_answers_is_not_given_more_and_more_of_them(worker: Gateway) -> None:
    await worker.send(post(b"{", close=True))
    async with worker.line() as (_, writer):
        counts, request = worker.services.metrics._refusals, post(b"{") * 200
        for _ in range(300):  # 60 000 answers of more than 300 bytes; sockets hold some megabytes of them
            writer.write(request)
            await asyncio.sleep(0.002)
        refusals = 0
        while (now := sum(counts.values())) != refusals:
            refusals = now
            await asyncio.sleep(0.05)
        waiting = [lane.transport.get_write_buffer_size() for lane in worker.connections]
        assert 0 < max(waiting) < 2 << 20


# ---- heads and bodies


async def test_who_asks_whether_to_send_is_told_to_or_told_why_not(worker: Gateway) -> None:
    expect = "Expect: 100-continue"
    async with worker.line() as (reader, writer), asyncio.timeout(5):
        head, _, body = chat("hi", expect).partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert said((await next_answer(reader)).body) == HELLO
        writer.write(b"\r\n\r\n".join(post(b"x" * (LIMIT + 1), expect).split(b"\r\n\r\n")[:1]) + b"\r\n\r\n")
        answer = await next_answer(reader)
        assert (answer.status, answer.code, answer.headers["connection"]) == (413, "request_too_large", "close")


async def test_an_old_client_and_one_that_wants_to_go_are_answered_and_the_connection_closed(worker: Gateway) -> None:
    old = chat().replace(b"HTTP/1.1", b"HTTP/1.0")
    for request in (old, chat(close=True), chat(stream=True, close=True), post(b"{", close=True)):
        (answer,) = await answers_in(await worker.send(request))
        assert answer.headers["connection"] == "close"
        assert answer.status == (400 if request.endswith(b"{") else 200)


async def test_a_client_that_offers_another_protocol_is_answered_in_this_one(worker: Gateway) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
    async with worker.line() as (reader, writer), asyncio.timeout(5):
        for request in (chat("one", *offer), chat("two"), get("/healthz", *offer), chat("three", *offer)):
            half = len(request) - 20
            writer.write(request[:half])
            await asyncio.sleep(0.01)
            writer.write(request[half:])
            assert (await next_answer(reader)).status == 200
    assert [body["messages"][0]["content"] for body in worker.engine.bodies] == ["one", "two", "three"]


IN_CHUNKS = "transfer-encoding: chunked"
SMUGGLING = [
    post(b"{}", IN_CHUNKS),
    post(b"0\r\n\r\n", "content-length: 5", IN_CHUNKS, length=False),
    post(b"{}", "content-length: 2"),
    post(b"{}", "content-length: 3"),
    post(b"{}", "content-length: -2", length=False),
    post(b"{}", "content-length: +2", length=False),
    post(b"{}", "content-length: 0x2", length=False),
    post(b"{}", "content-length: 2, 2", length=False),
    post(b"{}", "content-length: ", length=False),
    post(b"{}", "content-length: 99999999999999999999", length=False),
    post(b"{}", "content-length: two", length=False),
    post(b"{}", "transfer-encoding: xchunked", length=False),
    post(b"{}", "transfer-encoding: chunked, identity", length=False),
    post(b"{}", "transfer-encoding : chunked", length=False),
    post(b"{}", "a: b\r\n transfer-encoding: chunked", length=False),
    post(b"{}", "a: b\ntransfer-encoding: chunked", length=False),
    post(b"2\n{}\n0\n\n", IN_CHUNKS, length=False),
    post(b"-2\r\n{}\r\n0\r\n\r\n", IN_CHUNKS, length=False),
    post(b"0x2\r\n{}\r\n0\r\n\r\n", IN_CHUNKS, length=False),
    post(b"2 \r\n{}\r\n0\r\n\r\n", IN_CHUNKS, length=False),
    post(b"2\r\n{}x\r\n0\r\n\r\n", IN_CHUNKS, length=False),
    post(b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n", IN_CHUNKS, length=False),
    post(b"2\r\n{}\r\n0\r\ncontent-length: 5\r\n\r\n", IN_CHUNKS, length=False),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /v1/chat/completions HTTP/9.9\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", SMUGGLING, ids=range(len(SMUGGLING)))
async def test_what_two_servers_could_read_in_two_ways_is_refused_and_the_connection_closed(
    worker: Gateway, request_bytes: bytes
) -> None:
    for stranger in (False, True):  # known by the head alone, or not at all
        sent = request_bytes.replace(b"Bearer ", b"Bearer x") if stranger else request_bytes
        (answer, *more) = await answers_in(await worker.send(sent + get()))
        assert answer.status in ((400, 401) if stranger else (400,))
        assert not more
    assert worker.engine.asks == []


async def test_a_body_over_the_limit_is_413_and_the_connection_goes_on(worker: Gateway) -> None:
    large = json.dumps({"model": "assistant", "messages": [], "user": "x" * LIMIT}).encode()
    in_pieces = post(b"", IN_CHUNKS, length=False) + in_chunks(large, 999).partition(b"\r\n\r\n")[2]
    async with worker.line() as (reader, writer), asyncio.timeout(10):
        for request in (post(large), in_pieces, post(large)):
            writer.write(request)  # all of it, before the answer is looked at
            await writer.drain()
            await asyncio.sleep(0.05)
            answer = await next_answer(reader)
            assert (answer.status, answer.code) == (413, "request_too_large")
            writer.write(chat())
            assert said((await next_answer(reader)).body) == HELLO


async def test_a_body_without_end_is_413_and_then_cut_off(worker: Gateway) -> None:
    async with worker.line() as (reader, writer), asyncio.timeout(RECEIPT_SECONDS + 2):
        writer.write(post(b"", "content-length: 4000000000000", length=False))
        assert (await next_answer(reader)).code == "request_too_large"
        pouring = asyncio.create_task(pour(writer))
        assert await reader.read() == b""
        pouring.cancel()


async def pour(writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()
            await asyncio.sleep(0.01)


async def test_nonsense_after_an_early_answer_is_answered_by_nothing_more(worker: Gateway) -> None:
    request = post(b"", IN_CHUNKS, length=False) + b"%x\r\n%b\r\n" % (LIMIT + 1, b"x" * (LIMIT + 1))
    (answer,) = await answers_in(await worker.send(request, b"nonsense\r\n"))
    assert answer.status == 413


@pytest.mark.parametrize("flood", [b"0\r\nx: ", b"2;y="], ids=["trailers", "extensions"])
async def test_chunks_with_endless_words_beside_them_are_refused(worker: Gateway, flood: bytes) -> None:
    for path in (b"/v1/chat/completions", b"/v1/responses"):
        before = worker.services.metrics._refusals.get((431, "headers_too_large"), 0)
        async with worker.line() as (_, writer), asyncio.timeout(RECEIPT_SECONDS / 2):
            head = post(b"", IN_CHUNKS, length=False).replace(b"/v1/chat/completions", path)
            writer.write(head + b"2\r\n{\n\r\n" + flood)
            while not writer.transport.is_closing():
                writer.write(b"z" * 2000)
                await asyncio.sleep(0.002)
        assert worker.services.metrics._refusals[431, "headers_too_large"] == before + 1


async def test_heads_over_the_limit_are_431(worker: Gateway) -> None:
    for request in (chat("hi", "x: " + "y" * 17_000), chat("hi", *[f"h{number}: y" for number in range(3000)])):
        (answer,) = await answers_in(await worker.send(request))
        assert (answer.status, answer.code) == (431, "headers_too_large")


async def test_slow_heads_and_bodies_are_408(worker: Gateway) -> None:
    async def trickle(data: bytes) -> bytes:
        async with worker.line() as (reader, writer):
            answer = asyncio.create_task(reader.read())
            for byte in data:
                if answer.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)
            return await asyncio.wait_for(answer, 3)

    length = len(chat())
    slow_body = chat()[: length - 30] + b" " * 30
    for (answer,) in await asyncio.gather(*(map(all_of, (trickle(chat()), trickle_body(worker, slow_body))))):
        assert (answer.status, answer.code, answer.headers["connection"]) == (408, "request_timeout", "close")


async def all_of(reading: Any) -> Any:
    return await answers_in(await reading)


async def trickle_body(worker: Gateway, request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    async with worker.line() as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        answer = asyncio.create_task(reader.read())
        for byte in body:
            if answer.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        return await asyncio.wait_for(answer, 3)


async def test_line_ends_between_requests_keep_no_connection_open(worker: Gateway) -> None:
    async with worker.line() as (reader, writer), asyncio.timeout(8):
        writer.write(chat())
        await next_answer(reader)
        closed = asyncio.create_task(reader.read())
        while not closed.done():
            writer.write(b"\r\n")
            await asyncio.sleep(0.2)


# ---- leaving


async def test_leaving_at_any_stage_leaves_nothing(worker: Gateway) -> None:
    request = chat(stream=True)

    async def one_word(ask: Ask) -> None:
        await ask.say(in_chunks(CHUNK % b"word", end=b""))
        await silent(ask)

    worker.engine.behaviour = one_word
    for reset in (False, True):
        for sent in (request[:10], request.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", request[:-1]):
            async with worker.line() as (_, writer):
                writer.write(sent)
                await asyncio.sleep(0.01)
                leave(writer, reset)
        assert worker.engine.asks == []
        for behaviour, waits_for in ((silent, b""), (one_word, b"word")):
            worker.engine.behaviour = behaviour
            async with worker.line() as (reader, writer), asyncio.timeout(3):
                writer.write(request)
                while not worker.engine.asks:
                    await asyncio.sleep(0.005)
                if waits_for:
                    await reader.readuntil(waits_for)
                leave(writer, reset)
                await asyncio.wait_for(worker.engine.asks.pop().left.wait(), 1.0)
    statuses = [record.status for record in await worker.records()]
    assert statuses[-4:] == ["aborted"] * 4


def leave(writer: asyncio.StreamWriter, reset: bool) -> None:
    if reset:
        writer.transport.abort()
    else:
        writer.close()


async def test_leaving_right_after_the_last_byte_is_recorded_as_finished(worker: Gateway) -> None:
    before = len(await worker.records())
    for stream in (False, True):
        async with worker.line() as (reader, writer):
            writer.write(chat(stream=stream))
            await next_answer(reader)
    assert [record.status for record in await worker.records()][before:] == ["finished"] * 2


# ---- many requests


async def test_one_connection_serves_two_hundred_requests_of_every_kind(worker: Gateway) -> None:
    async def by_wish(ask: Ask) -> None:
        if "fail" in str(ask.body["messages"]):
            await ask.say(with_length(b"{}", b"500 Oops"))
        else:
            await ask.say(in_chunks(CHUNK % b"hello" + LAST) if ask.body.get("stream") else with_length(WHOLE))

    worker.engine.behaviour = by_wish
    kinds = [
        (chat(), 200),
        (chat(stream=True), 200),
        (post(b"{"), 400),
        (chat(temperature=99), 400),
        (chat(model="nobody"), 404),
        (get("/v1/nothing"), 404),
        (get(), 200),
        (chat("fail"), 502),
        (chat("fail", stream=True), 502),
        (post(b"x" * (LIMIT + 1)), 413),
        (chat().replace(b"Bearer ", b"Bearer x"), 401),
    ]
    order = random.Random(7).choices(kinds, k=200)
    async with worker.line() as (reader, writer), asyncio.timeout(30):
        for request, status in order:
            writer.write(request)
            answer = await next_answer(reader)
            assert answer.status == status
            if status == 200 and answer.headers["content-type"].startswith("text/event-stream"):
                assert streamed(answer.events) == "hello"
    assert len(worker.engine.asks) == sum(status in (200, 502) for _, status in order) - sum(
        request == get() for request, _ in order
    )
    assert status_of(await worker.send(get("/healthz", "connection: close"))) == 200


async def test_each_request_of_a_connection_is_read_for_itself_whatever_came_before(worker: Gateway) -> None:
    texts = ["a", "b" * 20, "c" * 3000, "d", "e"]
    async with worker.line() as (reader, writer):
        for text in texts:
            writer.write(chat(text))
            assert json.loads((await next_answer(reader)).body)["choices"][0]["message"] == HELLO | {"refusal": None}
        writer.write(chat("f").replace(b"Bearer ", b"Bearer x"))
        assert (await next_answer(reader)).status == 401
        writer.write(chat("g"))
        assert (await next_answer(reader)).status == 200
        for _ in range(2):
            writer.write(post(b"{}").replace(b"/chat/completions", b"/feedback"))
            assert (await next_answer(reader)).status in (400, 422)
        writer.write(chat("h"))
        assert (await next_answer(reader)).status == 200
        writer.write(chat("i", stream=True))
        assert (await next_answer(reader)).events[-1] == b"[DONE]"
    asked = [body["messages"][0]["content"] for body in worker.engine.bodies]
    assert asked == [*texts, "g", "h", "i"]
