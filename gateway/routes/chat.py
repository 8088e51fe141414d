"""`POST /v1/chat/completions`: validate, dispatch, stream back cleaned, record. Thin; see `exchange.py`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.errors import AlignwayError, UpstreamError
from gateway.routes.body import read_body
from gateway.routes.exchange import Exchange, record_in_background
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
    chat = parse_chat_request(await read_body(request))
    exchange = Exchange(request.app.state.services, caller, chat)
    if chat.stream:
        chunks = exchange.chunks()
        first = await _unless_disconnected(request, exchange, anext(chunks))
        return StreamingResponse(
            _events(exchange, first, chunks), media_type="text/event-stream", headers=STREAM_HEADERS
        )
    reply = await _unless_disconnected(request, exchange, exchange.complete())
    return Response(msgspec.json.encode(reply), media_type="application/json")


async def _events(
    exchange: Exchange, first: dict[str, Any], rest: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[bytes]:
    try:
        yield _event(first)
        async for chunk in rest:
            yield _event(chunk)
        yield b"data: [DONE]\n\n"
    except AlignwayError as error:
        await exchange.record("failed")
        yield _event(error_body(error))
    finally:
        # Reached with the exchange unrecorded only when the client left: cancellation closes this generator.
        await record_in_background(exchange, "aborted")
        with suppress(Exception):
            await rest.aclose()  # type: ignore[attr-defined]


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


async def _unless_disconnected(request: Request, exchange: Exchange, work: Any) -> Any:
    """The result of `work`; a client that leaves meanwhile cancels it, and with it the engine's generation."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=DISCONNECT_POLL_SECONDS)
            if not task.done() and await request.is_disconnected():
                raise UpstreamError("The client closed the connection before the answer was ready.")
        return task.result()
    except AlignwayError:
        await exchange.record("failed" if task.done() else "aborted")
        raise
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
