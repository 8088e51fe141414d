"""Connections to engines: what one request did to a connection is no other request's trouble."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.engines.failures import UpstreamUnreachable
from gateway.engines.upstream import Connection, Origin
from gateway.errors import AlignwayError
from tests.patience import patient

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\nhost: engine\r\n\r\n"


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Reader:
    """Keeps what comes; pauses and lets go of its connection as a chat does whose client is slow."""

    def __init__(self, connection: Connection | None = None) -> None:
        self.got: list[bytes] = []
        self.over: asyncio.Future[AlignwayError | None] = asyncio.get_running_loop().create_future()
        self._connection = connection

    def reply_began(self, status: int) -> None:
        assert status == 200

    def reply_data(self, data: bytes) -> None:
        self.got.append(data)
        if self._connection is not None and data == b"one":
            self._connection.pause()  # the client's buffer is full
        if self._connection is not None and data == b"[DONE]":
            self._connection.let_go()

    def reply_ended(self) -> None:
        self.over.set_result(None)

    def reply_failed(self, error: AlignwayError) -> None:
        self.over.set_result(error)


@asynccontextmanager
async def engine(reply: bytes) -> AsyncIterator[Origin]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(reply)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    origin = Origin(f"http://127.0.0.1:{port}", asyncio.get_running_loop())
    try:
        yield origin
    finally:
        origin.close()
        server.close()


async def idle(origin: Origin) -> Connection:
    async with asyncio.timeout(patient(1)):
        while (connection := origin.take_idle()) is None:
            await asyncio.sleep(0.01)
    return connection


async def test_a_connection_paused_for_a_slow_client_serves_the_next_request() -> None:
    async with engine(HEAD + http_chunk(b"one") + http_chunk(b"[DONE]") + b"0\r\n\r\n") as origin:
        connection = await origin.connect(1.0)
        slow = Reader(connection)
        connection.send(REQUEST, slow, 5.0)
        again = await idle(origin)
        assert again is connection
        assert slow.got == [b"one", b"[DONE]"]
        following = Reader()
        again.send(REQUEST, following, 5.0)
        assert await asyncio.wait_for(following.over, patient(1)) is None
        assert following.got == [b"one", b"[DONE]"]


async def test_an_engine_that_never_ends_a_reply_nobody_waits_for_is_hung_up_on() -> None:
    async with engine(HEAD + http_chunk(b"one") + http_chunk(b"[DONE]")) as origin:
        connection = await origin.connect(1.0)
        connection.send(REQUEST, Reader(connection), 5.0)
        await asyncio.sleep(0.1)
        assert origin.busy == {connection}
        origin.sweep(origin.loop.time() + 60)
        await asyncio.sleep(0.01)
        assert not origin.busy
        assert not connection.usable


async def test_a_connection_lost_before_it_is_used_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine(b"") as origin:
        create = origin.loop.create_connection

        async def lost(*arguments: object, **named: object) -> tuple[object, Connection]:
            transport, connection = await create(*arguments, **named)  # type: ignore[call-overload]
            transport.abort()
            await asyncio.sleep(0.01)
            return transport, connection

        monkeypatch.setattr(origin.loop, "create_connection", lost)
        with pytest.raises(UpstreamUnreachable):
            await origin.connect(1.0)
        assert not origin.busy
