"""Reading request bodies within their limits of size and time."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Message

from gateway.errors import AlignwayError, InvalidRequest, TooLarge
from gateway.wire.http_protocol import LAST_LOOK_SECONDS
from gateway.wire.json_body import invalid_field, is_deeper, parse_json
from gateway.wire.media_type import require_json

Body = TypeVar("Body", bound=BaseModel)
Received = TypeVar("Received", bytes, bytearray)


class ReceiptTooSlow(InvalidRequest):
    """The request did not arrive in time."""

    status, code = 408, "request_timeout"


class ClientLeft(AlignwayError):
    """The client closed the connection before it had its answer; nobody will read this."""

    status, type, code = 499, "invalid_request_error", "client_closed_request"

    def __init__(self) -> None:
        super().__init__("The client closed the connection before the answer was ready.")


async def read_body(request: Request, *, images: bool = False) -> bytes:
    """The whole body; `images`: it may be as large as images are.

    Raises `TooLarge` as soon as it exceeds its limit, `ReceiptTooSlow`, `ClientLeft` or `UnsupportedMediaType`.
    """
    require_json(request.headers.get("content-type"), request.headers.get("content-encoding"))
    server = request.app.state.services.settings.server
    limit = server.image_body_limit_bytes if images else server.body_limit_bytes
    first = _come_already(request)
    if first is not None and first["type"] == "http.request" and not first.get("more_body"):
        body: bytes = first.get("body", b"")
        return _within(limit, body)
    try:
        async with _received_within(server.receipt_seconds):
            return await _receive(request if first is None else _behind(first, request), limit)
    except TimeoutError as error:
        raise ReceiptTooSlow(
            f"The body did not arrive within {server.receipt_seconds:g} s (`server.receipt_seconds`). Send it faster."
        ) from error
    except ClientDisconnect as error:
        raise ClientLeft from error


@asynccontextmanager
async def _received_within(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` after so long, but not before what has come meanwhile was read: see `LAST_LOOK_SECONDS`."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = loop.call_later(seconds, lambda: limit.reschedule(loop.time() + LAST_LOOK_SECONDS))
        try:
            yield
        finally:
            timer.cancel()


def _come_already(request: Request) -> Message | None:
    """What can be received without waiting. For most bodies that is all, and no clock is needed."""
    receiving: Coroutine[Any, Any, Message] = request.receive()  # type: ignore[assignment]
    try:
        receiving.send(None)
    except StopIteration as done:
        message: Message = done.value
        return message
    receiving.close()  # it waits: nothing was taken yet
    return None


def _behind(first: Message, request: Request) -> Request:
    """The request with what was received of it put back."""
    waiting = [first]

    async def receive() -> Message:
        return waiting.pop() if waiting else await request.receive()

    return Request(request.scope, receive)


async def _receive(request: Request, limit: int) -> bytes:
    received = bytearray()
    async for block in request.stream():
        received += block
        _within(limit, received)
    return bytes(received)


def _within(limit: int, received: Received) -> Received:
    if len(received) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes. Send less, or raise `server.body_limit_bytes`.")
    return received


async def read_fields(request: Request, *, images: bool = False) -> tuple[dict[str, Any], int]:
    """The body as a JSON object within the limit of depth, and how many bytes it came in. Raises `InvalidRequest`."""
    raw = await read_body(request, images=images)
    fields, levels = parse_json(raw), request.app.state.services.settings.surface.max_json_depth
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    if is_deeper(fields, levels):
        raise InvalidRequest(
            f"The body is nested more than {levels} levels deep; send it flatter.", code="invalid_value"
        )
    return fields, len(raw)


async def read_model(request: Request, model: type[Body]) -> Body:
    """The body as a validated model; an absent body counts as `{}`. Raises `InvalidRequest` naming the parameter."""
    raw = await read_body(request)
    fields: Any = parse_json(raw) if raw else {}
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid_field(error) from error
