"""Streams beside the hot route: closed with their client, ended in words, cut short when the time to drain is over."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from gateway.errors import AlignwayError, UpstreamError
from gateway.routes.event_stream import EventStream, data_event, named_event
from gateway.routing.drain import Drain, ServerShuttingDown

SCOPE = {"type": "http", "asgi": {"spec_version": "2.4"}}


class Source:
    """Events, and then whatever a test wants to happen."""

    def __init__(self, then: Any = None) -> None:
        self.closed = False
        self._then = then

    async def events(self) -> AsyncGenerator[bytes, None]:
        try:
            yield b"two"
            if isinstance(self._then, Exception):
                raise self._then
            if self._then is not None:
                await self._then.wait()
        finally:
            self.closed = True


class Client:
    """What an ASGI server hands on of a client."""

    def __init__(self, leaves_after: int | None = None) -> None:
        self.got: list[bytes] = []
        self._leaves_after = leaves_after

    async def send(self, message: dict[str, Any]) -> None:
        if message.get("body"):
            self.got.append(message["body"])
            if len(self.got) == self._leaves_after:
                raise OSError("gone")

    async def receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}


def stream(source: Source, drain: Drain | None = None) -> EventStream:
    def failed(error: AlignwayError) -> bytes:
        return f"failed: {error.code}".encode()

    return EventStream(drain or Drain(), b"one", source.events(), failed, {"x-ratelimit-limit-requests": "3"})


async def test_events_pass_in_order_with_their_headers() -> None:
    client, source = Client(), Source()
    answer = stream(source)
    await answer(SCOPE, client.receive, client.send)
    assert client.got == [b"one", b"two"]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-ratelimit-limit-requests"]) == ("no-cache", "3")


@pytest.mark.parametrize(
    ("error", "code"), [(UpstreamError("It broke."), "upstream_error"), (ValueError("a bug"), "internal_error")]
)
async def test_a_source_that_breaks_off_is_told_as_the_last_event(error: Exception, code: str) -> None:
    client = Client()
    await stream(Source(error))(SCOPE, client.receive, client.send)
    assert client.got == [b"one", b"two", b"failed: " + code.encode()]


async def test_a_client_that_leaves_closes_the_source() -> None:
    client, source = Client(leaves_after=2), Source(asyncio.Event())
    with pytest.raises(Exception):  # noqa: B017  (Starlette's word for it is of no matter)
        await stream(source)(SCOPE, client.receive, client.send)
    assert source.closed


async def test_the_end_of_a_drain_ends_a_stream_in_words() -> None:
    client, source, drain = Client(), Source(asyncio.Event()), Drain()
    answering = asyncio.create_task(stream(source, drain)(SCOPE, client.receive, client.send))
    while len(client.got) < 2:
        await asyncio.sleep(0.01)
    drain.end()
    await asyncio.wait_for(answering, 5)
    assert client.got == [b"one", b"two", f"failed: {ServerShuttingDown.code}".encode()]
    assert source.closed


def test_events_are_spelt_as_openai_does() -> None:
    assert data_event({"type": "a"}) == b'data: {"type":"a"}\n\n'
    assert named_event({"type": "a.b"}) == b'event: a.b\ndata: {"type":"a.b"}\n\n'
