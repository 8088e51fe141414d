"""A client that stops reading costs no memory: its engine is held back, and after a while both are let go."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from tests.gateway.relay.served import CHUNK, CHUNKED, LAST, Ask, Gateway, chat, gateway, http_chunk

pytestmark = pytest.mark.asyncio(loop_scope="module")
STALL_SECONDS = 3.0
LONG_BYTES = 200 << 20


@pytest.fixture(scope="module")
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("pressure"), server={"stall_seconds": STALL_SECONDS}) as made:
        await made.send(chat(close=True))
        yield made


async def long(ask: Ask) -> None:
    piece = http_chunk(CHUNK % (b"x" * 50_000))
    await ask.say(CHUNKED)
    while ask.sent_bytes < LONG_BYTES:
        await ask.say(piece)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_client_that_stops_reading_holds_its_engine_back_and_is_cut_off(worker: Gateway) -> None:
    worker.engine.forget()
    worker.engine.behaviour = long
    before = resident_bytes()
    async with worker.line() as (reader, writer), asyncio.timeout(STALL_SECONDS + 5):
        writer.write(chat(stream=True))
        await reader.readuntil(b"data: ")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        while not worker.engine.asks:
            await asyncio.sleep(0.01)
        ask = worker.engine.asks[0]
        sent = -1
        while sent != ask.sent_bytes:
            sent = ask.sent_bytes
            await asyncio.sleep(0.6)
        assert sent < 40 << 20  # what four sockets hold
        assert not ask.left.is_set()
        assert resident_bytes() - before < 30 << 20
        await ask.left.wait()
    assert ask.sent_bytes == sent
    assert [record.status for record in await worker.records()][-1] == "aborted"
    await worker.is_at_rest()


async def test_a_client_that_is_slow_and_reads_on_is_not_cut_off(worker: Gateway) -> None:
    async def some(ask: Ask) -> None:
        await ask.say(CHUNKED)
        for _ in range(400):
            await ask.say(http_chunk(CHUNK % (b"x" * 50_000)))
        await ask.say(http_chunk(LAST) + b"0\r\n\r\n")

    worker.engine.forget()
    worker.engine.behaviour = some
    heard = b""
    async with worker.line() as (reader, writer), asyncio.timeout(5 * STALL_SECONDS):
        writer.write(chat(stream=True, close=True))
        began = asyncio.get_running_loop().time()
        while data := await reader.read(200_000):
            heard = heard[-50:] + data
            await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - began > STALL_SECONDS
    assert heard.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    await worker.is_at_rest()
