"""`POST /v1/chat/completions`: validate, dispatch, stream back cleaned, record. Thin; see `exchange.py`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.errors import AlignwayError
from gateway.routes.body import ClientLeft, read_body
from gateway.routes.exchange import Exchange
from gateway.routing.drain import Drain
from gateway.wire.chat import parse_chat_request
from gateway.wire.error_body import error_body

router = APIRouter()
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
DISCONNECT_POLL_SECONDS = 0.25

log = structlog.get_logger(__name__)


@router.post("/v1/chat/completions")
async def create_chat_completion(
    request: Request, caller: Annotated[Caller, Depends(require("inference"))]
) -> Response:
    """A completion by the release that the alias serves, whole or streamed."""
    drain: Drain = request.app.state.drain
    with drain.answering():
        chat = parse_chat_request(await read_body(request))
        exchange = Exchange(request.app.state.services, caller, chat)
        if chat.stream:
            chunks = exchange.chunks()
            first = await _unless_disconnected(request, exchange, anext(chunks))
            return EventStream(drain, exchange, first, chunks)
        reply = await _unless_disconnected(request, exchange, exchange.complete())
        return Response(msgspec.json.encode(reply), media_type="application/json")


class EventStream(StreamingResponse):
    """The answer as server-sent events. However it ends, the engine's work ends, and what was said is recorded."""

    def __init__(
        self, drain: Drain, exchange: Exchange, first: dict[str, Any], rest: AsyncIterator[dict[str, Any]]
    ) -> None:
        self._drain, self._exchange, self._rest = drain, exchange, rest
        super().__init__(self._events(first), media_type="text/event-stream", headers=STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await _close(self.body_iterator)
            await _close(self._rest)
            # Unrecorded yet only if the client left: what it heard is written down behind its back.
            self._exchange.begin_record("aborted")

    async def _events(self, first: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        try:
            with self._drain.answering():
                yield _event(first)
                async for chunk in self._rest:
                    yield _event(chunk)
            yield b"data: [DONE]\n\n"
            return
        except AlignwayError as error:
            failure = error
        except Exception as error:
            log.error("unexpected_error_in_stream", exc_info=error)
            failure = AlignwayError("Something went wrong inside Alignway; its log says what. Please report it.")
        self._exchange.begin_record("failed")
        yield _event(error_body(failure))
        await self._exchange.recorded()


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


async def _close(chunks: Any) -> None:
    with suppress(Exception):
        await chunks.aclose()


async def _unless_disconnected(request: Request, exchange: Exchange, work: Any) -> Any:
    """The result of `work`; a client that leaves meanwhile cancels it, and with it the engine's generation."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=DISCONNECT_POLL_SECONDS)
            if not task.done() and await request.is_disconnected():
                raise ClientLeft
        return task.result()
    except BaseException as error:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
        exchange.begin_record("aborted" if isinstance(error, ClientLeft) else "failed")
        raise
