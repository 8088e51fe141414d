"""Whatever an engine sends, its client soon gets an answer or an error in OpenAI's envelope; the record is true."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.engines.failures import UpstreamDisconnected, UpstreamUnreachable
from tests.gateway.relay.served import (
    CHUNK,
    CHUNKED,
    LAST,
    STREAM,
    WHOLE,
    Answer,
    Ask,
    Behaviour,
    Gateway,
    chat,
    gateway,
    http_chunk,
    in_chunks,
    next_answer,
    with_length,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
SOON_SECONDS = 2.0
FIVE_ATTEMPTS_SECONDS = 5.0
"""A replica that failed rests for a moment before it is tried again."""
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"
HALF = CHUNKED + http_chunk(CHUNK % b"half")


@pytest.fixture(scope="module")
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    upstream = {"read_timeout_seconds": 0.5, "reply_timeout_seconds": 0.5}
    async with gateway(tmp_path_factory.mktemp("upstream"), upstream=upstream) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def at_rest_afterwards(worker: Gateway) -> AsyncIterator[None]:
    worker.engine.forget()
    yield
    await worker.is_at_rest()


def sends(*blocks: bytes, then: str = "wait") -> Behaviour:
    """An engine that sends these blocks apart; then it waits, hangs up, or resets the connection."""

    async def behave(ask: Ask) -> None:
        for block in blocks:
            await ask.say(block)
            await asyncio.sleep(0.001)
        if then != "wait":
            (ask.hang_up if then == "hang up" else ask.reset)()

    return behave


async def asked(worker: Gateway, *, stream: bool, seconds: float = SOON_SECONDS) -> tuple[Answer, str | None]:
    """The answer, and the status of the record."""
    before = await worker.record_ids()
    async with worker.line() as (reader, writer), asyncio.timeout(seconds):
        writer.write(chat(stream=stream))
        answer = await next_answer(reader)
    for _ in range(20):
        new = (await worker.record_ids()).items() - before.items()
        if new or answer.status == 400:  # the client's own fault: there is nothing to record
            break
        await asyncio.sleep(0.005)
    statuses = [status for _, status in new]
    assert len(statuses) <= 1
    return answer, statuses[0] if statuses else None


def hang_up_on_idle_ones(worker: Gateway) -> None:
    for origin in worker.services.upstreams._origins.values():
        origin.close()


def is_hello(answer: Answer) -> bool:
    if answer.status != 200:
        return False
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return bool(json.loads(answer.body)["choices"][0]["message"]["content"] == "hello")
    chunks = [json.loads(event) for event in answer.events[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    return answer.events[-1] == b"[DONE]" and text == "hello"


def broke_off(answer: Answer) -> bool:
    """Whether a stream ended in one error event, with nothing that looks like an end."""
    *chunks, last = answer.events
    error = json.loads(last)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    ends = [event for event in chunks if event == b"[DONE]" or json.loads(event)["choices"][0]["finish_reason"]]
    return answer.status == 200 and not ends and all(b'"error"' not in event for event in chunks)


# ---- good replies, oddly sent


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cuts=st.lists(st.integers(1, 600), max_size=10),
    size=st.integers(1, 200),
    stream=st.booleans(),
    chunked=st.booleans(),
    interim=st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", INTERIM * 2]),
)
async def test_a_reply_cut_anywhere_is_the_same_reply(
    worker: Gateway, cuts: list[int], size: int, stream: bool, chunked: bool, interim: bytes
) -> None:
    body = STREAM if stream else WHOLE
    reply = interim + (in_chunks(body, size) if chunked else with_length(body))
    places = sorted({0, *cuts, len(reply)})
    worker.engine.behaviour = sends(*(reply[first:second] for first, second in pairwise(places)))
    answer, record = await asked(worker, stream=stream)
    assert is_hello(answer)
    assert record == "finished"


async def test_replies_byte_by_byte(worker: Gateway) -> None:
    for stream, reply in ((True, in_chunks(STREAM, 7)), (False, with_length(WHOLE))):
        worker.engine.behaviour = sends(*(bytes([byte]) for byte in reply))
        answer, record = await asked(worker, stream=stream)
        assert is_hello(answer)
        assert record == "finished"


async def test_a_reply_without_a_length_ends_with_its_connection(worker: Gateway) -> None:
    for stream, body in ((True, STREAM), (False, WHOLE)):
        for head in (HEAD + b"\r\n", HEAD + b"connection: close\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"):
            worker.engine.behaviour = sends(head, body[:50], body[50:], then="hang up")
            answer, record = await asked(worker, stream=stream)
            assert is_hello(answer)
            assert record == "finished"


async def test_bytes_behind_a_reply_are_no_part_of_it_nor_of_the_next(worker: Gateway) -> None:
    other = with_length(WHOLE.replace(b"hello", b"evil"))
    for behind in (b"\r\n", b"nonsense", other, other[:40], in_chunks(STREAM)):
        for stream in (False, True):
            reply = in_chunks(STREAM) if stream else with_length(WHOLE)
            for blocks in ((reply + behind,), (reply, behind), (reply[:-3], reply[-3:] + behind)):
                worker.engine.behaviour = sends(*blocks)
                for _ in range(2):
                    answer, record = await asked(worker, stream=stream)
                    assert is_hello(answer), (behind, blocks, answer.body)
                    assert record == "finished"


async def test_an_engine_that_closes_after_each_reply_is_asked_on_new_connections(worker: Gateway) -> None:
    for reply in (with_length(WHOLE, b"200 OK", b"connection: close"), with_length(WHOLE)):
        worker.engine.behaviour = sends(reply, then="hang up")
        for _ in range(5):
            assert is_hello((await asked(worker, stream=False))[0])


async def test_an_answer_before_the_request_is_read_is_passed_on(worker: Gateway) -> None:
    def refuse(ask: Ask) -> None:
        ask.transport.write(with_length(b'{"message":"too long"}', b"413 Too Large"))

    def refuse_and_go(ask: Ask) -> None:
        refuse(ask)
        ask.hang_up()

    worker.engine.behaviour = sends()  # nothing more once all of the request is there
    async with worker.line() as (reader, writer), asyncio.timeout(3 * SOON_SECONDS):
        for interruption in (refuse, refuse, refuse_and_go):
            worker.engine.interruption = interruption
            writer.write(chat("x" * 3_900_000))
            answer = await next_answer(reader)
            if interruption is refuse:
                assert (answer.status, answer.code) == (400, "invalid_request")
            else:  # the system may drop the reply of an engine that goes with the request unread
                assert (answer.status, answer.code) in ((400, "invalid_request"), (502, "upstream_error"),
                                                        (502, "upstream_disconnected"))  # fmt: skip


# ---- bad ones


BAD_FROM_THE_START = {
    "not http": [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "no version": [b"200 OK\r\n\r\n"],
    "bad status": [b"HTTP/1.1 9999 Odd\r\n\r\n"],
    "bad chunk size": [CHUNKED, b"zz\r\nabc\r\n"],
    "negative chunk": [CHUNKED, b"-5\r\nabc\r\n"],
    "huge chunk size": [CHUNKED, b"ffffffffffffffffffff\r\nabc"],
    "two lengths": [HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"],
    "length and chunks": [HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    "negative length": [HEAD + b"content-length: -5\r\n\r\nabcdef"],
    "another protocol": [b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nxyz"],
    "204": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "304": [b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n"],
    "302": [with_length(b"", b"302 Found", b"location: http://127.0.0.1:1/")],
    "empty": [with_length(b"")],
    "empty chunks": [in_chunks(b"")],
    "no json": [with_length(b"<html>")],
    "bad utf-8": [with_length(WHOLE.replace(b"hello", b"\xff\xfe"))],
    "lone surrogate": [with_length(WHOLE.replace(b"hello", b"\\ud800"))],
    "deep": [with_length(b"[" * 100_000)],
    "no choices": [with_length(b"{}")],
    "gzip": [with_length(gzip.compress(WHOLE), b"200 OK", b"content-encoding: gzip")],
    "gzip in chunks": [in_chunks(gzip.compress(STREAM))],
    "silence": [],
    "silence in the head": [HEAD],
    "silence before the body": [HEAD + b"content-length: 5\r\n\r\n"],
    "silence in the body": [HEAD + b"content-length: 5\r\n\r\nab"],
    "only interim heads": [b"HTTP/1.1 100 Continue\r\n\r\n"],
    "an error": [with_length(b'{"error":{"message":"no"}}', b"500 Oops")],
    "a short error": [HEAD.replace(b"200", b"500") + b"content-length: 500\r\n\r\nx"],
    "a long error": [with_length(b"x" * (3 << 20), b"500 Oops")],
    "a long error in json": [with_length(b'{"error":{"message":"%b"}}' % (b"y" * (2 << 20)), b"400 Bad")],
    "a long error in chunks": [in_chunks(b"x" * (1 << 20), 1000).replace(b"200 OK", b"503 No")],
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", BAD_FROM_THE_START)
async def test_a_reply_that_is_none_is_an_error_in_the_envelope(worker: Gateway, name: str, stream: bool) -> None:
    worker.engine.behaviour = sends(*BAD_FROM_THE_START[name])
    answer, record = await asked(worker, stream=stream)
    refused = name == "a long error in json"
    assert answer.status in ((400,) if refused else (502, 503)), answer.body
    assert answer.code
    assert len(answer.body) < 2000
    assert record == (None if refused else "failed")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("then", ["hang up", "reset"])
async def test_an_engine_that_leaves_at_any_stage_is_an_error(worker: Gateway, stream: bool, then: str) -> None:
    reply = in_chunks(CHUNK % b"hel" + LAST.partition(b"data: [DONE]")[0]) if stream else with_length(WHOLE)
    head = reply.index(b"\r\n\r\n") + 4
    for upto in (0, 5, 17, head, head + 16, len(reply) - 12):
        worker.engine.behaviour = sends(with_length(WHOLE))
        await asked(worker, stream=False)  # it works: its failures are counted anew
        worker.engine.forget()
        worker.engine.behaviour = sends(reply[:upto], then=then)
        answer, record = await asked(worker, stream=stream)
        if answer.status == 200:
            assert stream
            assert broke_off(answer)
        else:
            assert answer.status == 502
            assert answer.code == ("upstream_error" if upto > head else "upstream_disconnected")
        assert record == "failed"
        assert len(worker.engine.asks) == (1 if upto > head else UpstreamDisconnected.max_attempts)


async def test_an_engine_that_breaks_off_in_a_stream_is_one_error_event(worker: Gateway) -> None:
    for blocks in (
        (HALF,),  # and then silence
        (HALF, b"zz\r\n"),
        (HALF, b"0\r\n\r\n"),
        (HALF, http_chunk(b"data: {\n\n")),
        (HALF, http_chunk(b"data: " + gzip.compress(b"x") + b"\n\n")),
        (HALF, http_chunk(b'data: {"error":{"message":"out of memory"}}\n\n')),
        (HALF, http_chunk(b"data: [DONE]\n\n")),
        (HALF + b"5\r\nabcdefgh\r\n",),
    ):
        worker.engine.behaviour = sends(*blocks)
        answer, record = await asked(worker, stream=True)
        assert broke_off(answer), answer.body
        assert record == "failed"


async def test_an_attempt_that_failed_leaves_nothing_in_the_next(worker: Gateway) -> None:
    async def busy_once(ask: Ask) -> None:
        if len(worker.engine.asks) == 1:
            await ask.say(with_length(b"data: {", b"503 No"))
        else:
            await ask.say(in_chunks(STREAM))

    worker.engine.behaviour = busy_once
    answer, record = await asked(worker, stream=True)
    assert is_hello(answer)
    assert record == "finished"


# ---- without end


def endless(first: bytes, *again: bytes) -> Behaviour:
    async def behave(ask: Ask) -> None:
        await ask.say(first)
        while not ask.left.is_set():
            for data in again:
                await ask.say(data)

    return behave


WITHOUT_END = {
    "header": (HEAD + b"x: ", b"y" * 5000),
    "headers": (HEAD, b"x: y\r\n" * 500),
    "status line": (b"HTTP/1.1 200 ", b"O" * 5000),
    "interim heads": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 200),
    "trailers": (CHUNKED + b"0\r\n", b"x: y\r\n" * 500),
    "chunk extensions": (CHUNKED + b"5;x=", b"y" * 5000),
    "line": (CHUNKED, http_chunk(b"data: " * 10_000)),
    "line in small pieces": (CHUNKED, http_chunk(b"x" * 20) * 5000),
    "lines of nonsense": (CHUNKED, http_chunk(b"x" * 99 + b"\n") * 500),
    "error": (HEAD.replace(b"200", b"500") + b"transfer-encoding: chunked\r\n\r\n", http_chunk(b"x" * 10_000)),
    "body": (HEAD + b"\r\n", b"x" * 200_000),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", WITHOUT_END)
async def test_what_has_no_end_is_ended(worker: Gateway, name: str, stream: bool) -> None:
    if not stream and name.startswith("line"):
        pytest.skip("lines are of streams; for a whole reply this is an endless body in small pieces")
    worker.engine.behaviour = endless(*WITHOUT_END[name])
    answer, record = await asked(worker, stream=stream)
    assert answer.status == 502
    assert answer.code == "upstream_error"
    assert record == "failed"
    await asyncio.wait_for(worker.engine.asks[0].left.wait(), 1.0)


async def test_what_comes_after_the_last_word_without_end_is_hung_up_on(worker: Gateway) -> None:
    worker.engine.behaviour = endless(CHUNKED + http_chunk(STREAM), http_chunk(b"x" * 5000))
    answer, record = await asked(worker, stream=True)
    assert is_hello(answer)
    assert record == "finished"
    await asyncio.wait_for(worker.engine.asks[0].left.wait(), 8.0)


# ---- connections that are not what they seem


async def test_an_engine_that_hangs_up_on_whoever_comes_is_an_error(worker: Gateway) -> None:
    for greeting in (Ask.hang_up, Ask.reset):
        worker.engine.greeting = greeting
        hang_up_on_idle_ones(worker)
        answer, _ = await asked(worker, stream=True, seconds=FIVE_ATTEMPTS_SECONDS)
        assert answer.status == 502
        assert answer.code in ("upstream_unreachable", "upstream_disconnected")
        assert worker.engine.connections <= UpstreamUnreachable.max_attempts + UpstreamDisconnected.max_attempts
        worker.engine.forget()


async def test_an_engine_that_talks_first_is_not_listened_to(worker: Gateway) -> None:
    hang_up_on_idle_ones(worker)
    worker.engine.greeting = lambda ask: ask.transport.write(with_length(WHOLE.replace(b"hello", b"evil")))
    answer, _ = await asked(worker, stream=False, seconds=FIVE_ATTEMPTS_SECONDS)
    assert answer.status == 502
    assert b"evil" not in answer.body


async def test_an_idle_connection_that_closes_when_it_is_used_costs_no_client_its_answer(worker: Gateway) -> None:
    async def stale(ask: Ask) -> None:
        if ask.served:
            ask.hang_up()
        else:
            ask.served = True
            await asyncio.sleep(0.05)
            await ask.say(with_length(WHOLE))

    worker.engine.behaviour = stale
    for _ in range(3):
        first = await asyncio.gather(*(asked_plainly(worker) for _ in range(5)))  # makes idle connections
        worker.engine.asks.clear()
        again = await asked_plainly(worker)  # two that are stale in a row would be one too many
        assert [answer.status for answer in (*first, again)] == [200] * 6
        assert len(worker.engine.asks) == 2


async def asked_plainly(worker: Gateway) -> Answer:
    async with worker.line() as (reader, writer), asyncio.timeout(SOON_SECONDS):
        writer.write(chat())
        return await next_answer(reader)
