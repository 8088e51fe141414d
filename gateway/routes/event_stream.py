"""Server-sent events on routes other than the hot one: closed with the client, ended in words, cut short by a drain."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.errors import AlignwayError
from gateway.relay.outlet import as_ours
from gateway.routes.body import ClientLeft
from gateway.routing.drain import Drain
from gateway.services import Services
from gateway.wire.error_body import error_body

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
POLL_SECONDS = 0.25

T = TypeVar("T")


class Streamed(StreamingResponse):
    """A stream that ends once its client has left.

    Starlette's own asks the stream to end while it waits; one whose engine is always faster than its reader never does.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or the client leaves."""
        stream = asyncio.create_task(self.stream_response(send))
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait({stream, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if stream.done():
                stream.result()
        finally:
            stream.cancel()
            leaving.cancel()
            await asyncio.gather(stream, leaving, return_exceptions=True)


class EventStream(Streamed):
    """Events as they come. However the stream ends, its source is closed, and with it the engine's work."""

    def __init__(
        self,
        drain: Drain,
        first: bytes,
        rest: AsyncGenerator[bytes, None],
        failed: Callable[[AlignwayError], bytes],
        headers: Mapping[str, str],
    ) -> None:
        """`failed` makes the last event of a stream that broke off."""
        self._drain, self._rest, self._failed = drain, rest, failed
        super().__init__(self._events(first), media_type="text/event-stream", headers={**HEADERS, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            for source in (self.body_iterator, self._rest):
                with suppress(Exception):
                    await source.aclose()  # type: ignore[attr-defined]

    async def _events(self, first: bytes) -> AsyncGenerator[bytes, None]:
        try:
            with self._drain.in_task():
                yield first
                async for event in self._rest:
                    yield event
            return
        except Exception as error:
            failure = as_ours(error)
        yield self._failed(failure)


def data_event(body: dict[str, Any]) -> bytes:
    """An event without a name, as chat and text completions have them."""
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def error_event(error: AlignwayError) -> bytes:
    """The last event of a chat or text completion that broke off."""
    return data_event(error_body(error))


def named_event(body: dict[str, Any]) -> bytes:
    """An event under the name of its type, as responses have them."""
    return b"event: " + str(body["type"]).encode() + b"\n" + data_event(body)


async def answered(request: Request, services: Services, work: Awaitable[T]) -> T:
    """The result of `work`, cut short by a client that leaves, and by the end of a drain."""

    async def in_drain() -> T:
        with services.drain.in_task():
            return await work

    return await unless_left(request, in_drain())


async def unless_left(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`; a client that leaves meanwhile cancels it, and with it the engine's generation."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=POLL_SECONDS)
            if not task.done() and await request.is_disconnected():
                raise ClientLeft
        return task.result()
    except BaseException:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
        raise
