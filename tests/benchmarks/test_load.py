"""The load against the real mock: right answers count, wrong and lost ones are told apart."""

import asyncio
import functools

import pytest

from benchmarks.gateway.load import Endpoint, Load, closed_loop, counted, open_loop, streams
from benchmarks.gateway.mock import MODEL, Mock

CHUNKS = 5


class Liar(Mock):
    """Answers every request with the answer to another one."""

    def on_body(self, body):
        super().on_body(body.replace(b"nonce=", b"nonce=9"))


class Quitter(Mock):
    """Closes the connection instead of an answer."""

    def on_message_complete(self):
        self._transport.close()


@pytest.fixture
async def start():
    servers = []

    async def make(kind=Mock):
        loop = asyncio.get_running_loop()
        servers.append(await loop.create_server(functools.partial(kind, CHUNKS, 0.001), "127.0.0.1", 0))
        return Load(Endpoint("127.0.0.1", servers[-1].sockets[0].getsockname()[1], MODEL), CHUNKS)

    yield make
    for server in servers:
        server.close()


async def test_every_answer_of_each_kind_of_load_is_checked_and_counted(start):
    load = await start()
    closed = await closed_loop(load, connections=3, seconds=0.2)
    opened = await open_loop(load, rate=100.0, seconds=0.2)
    streamed = await streams(load, connections=2, each=3, spread_seconds=0.01)
    assert len(closed) >= 3
    assert len(opened) == 20
    assert [answer.chunks for answer in streamed] == [CHUNKS] * 6
    assert all(0 < answer.first_chunk_seconds < answer.seconds for answer in streamed)
    assert load.answers == len(closed) + len(opened) + len(streamed)
    assert (load.wrong, load.without_usage) == ({}, 0)


async def test_a_counted_load_asks_exactly_so_often(start):
    load = await start()
    found = await counted(load, connections=4, requests=50, stream_every=10)
    assert len(found) == 50
    assert sum(answer.chunks == CHUNKS for answer in found) == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_to_another_request_counts_as_wrong(start, stream):
    load = await start(Liar)
    assert await load.ask(await load.connect(), stream) is None
    assert load.answers == 0
    (said,) = load.wrong
    assert said.startswith("WrongAnswer")


async def test_a_connection_closed_in_place_of_an_answer_counts_as_failed(start):
    load = await start(Quitter)
    assert await load.ask(await load.connect()) is None
    (said,) = load.wrong
    assert said.startswith("ConnectionError")
