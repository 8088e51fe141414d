"""`POST /v1/chat/completions` by way of the application.

Workers answer this route in `gateway/relay/lane.py`, before the application hears of it. What the lane leaves to others
(HTTP/1.0, a request behind another one, an address with a query, a large body from a key that was not looked up lately)
comes here, and is answered by the same exchange.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.errors import AlignwayError
from gateway.routes.body import ClientLeft, read_body
from gateway.routes.event_stream import Streamed
from gateway.routes.exchange import Exchange
from gateway.wire.chat import parse_chat_request
from gateway.wire.error_body import error_body

router = APIRouter()
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
DISCONNECT_POLL_SECONDS = 0.25


@router.post("/v1/chat/completions")
async def create_chat_completion(
    request: Request, caller: Annotated[Caller, Depends(require("inference"))]
) -> Response:
    """A completion by the release that the alias serves, whole or streamed."""
    services = request.app.state.services
    chat = parse_chat_request(await read_body(request, images=caller.images), services.settings.surface)
    exchange = Exchange(services, caller, chat, traceparent=request.headers.get("traceparent"))
    await exchange.admit()
    if not chat.stream:
        reply = await unless_disconnected(request, exchange.reply())
        return Response(reply, media_type="application/json", headers=exchange.headers)
    events = exchange.events()
    first = await unless_disconnected(request, anext(events))
    return EventStream(first, events, exchange.headers)


class EventStream(Streamed):
    """Server-sent events. However the response ends, so does the work behind it."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None], headers: dict[str, str]) -> None:
        self._rest = rest
        super().__init__(_told(first, rest), media_type="text/event-stream", headers=STREAM_HEADERS | headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with suppress(Exception):
                await self._rest.aclose()


async def _told(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for data in rest:
            yield data
    except AlignwayError as error:
        yield b"data: " + msgspec.json.encode(error_body(error)) + b"\n\n"


async def unless_disconnected(request: Request, work: Any) -> Any:
    """The result of `work`; a client that leaves meanwhile cancels it, and with it the engine's generation."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=DISCONNECT_POLL_SECONDS)
            if not task.done() and await request.is_disconnected():
                raise ClientLeft
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
