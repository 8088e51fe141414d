"""`POST /v1/responses`: OpenAI's newer route, stateless. Answered as the chat request that says the same, and recorded
like one: its `resp_` id can be voted on.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.contracts import ids
from gateway.errors import AlignwayError, InvalidRequest
from gateway.routes.body import read_fields
from gateway.routes.event_stream import EventStream, named_event, unless_left
from gateway.routes.exchange import Exchange
from gateway.services import Services
from gateway.wire.chat import parse_chat_request
from gateway.wire.responses.events import ResponseEvents, whole_response
from gateway.wire.responses.refusal import put_in_own_words
from gateway.wire.responses.request import ResponsesRequest, chat_fields, parse_responses_request

router = APIRouter()


@router.post("/v1/responses")
async def create_response(request: Request, caller: Annotated[Caller, Depends(require("inference"))]) -> Response:
    """A response by the release that the alias serves, whole or streamed."""
    services: Services = request.app.state.services
    fields, _ = await read_fields(request, images=caller.images)
    asked = parse_responses_request(fields)
    response_id = ids.mint(ids.RESPONSE)
    try:
        chat = parse_chat_request(msgspec.json.encode(chat_fields(asked)), services.settings.surface)
        exchange = Exchange(services, caller, chat, request, completion_id=response_id)
        return await _answer(request, exchange, asked, response_id)
    except InvalidRequest as error:
        put_in_own_words(error)
        raise


async def _answer(request: Request, exchange: Exchange, asked: ResponsesRequest, response_id: str) -> Response:
    await exchange.admit()
    if not asked.stream:
        reply = await unless_left(request, exchange.complete())
        response = whole_response(asked, response_id, reply, int(time.time()))
        return Response(msgspec.json.encode(response), media_type="application/json", headers=exchange.headers)
    events = ResponseEvents(asked, response_id)
    stream = _stream(exchange.chunks(), events)
    first = await unless_left(request, anext(stream))

    def failed(error: AlignwayError) -> bytes:
        return b"".join(map(named_event, events.fail(error.message)))

    return EventStream(request.app.state.drain, first, stream, failed, exchange.headers)


async def _stream(chunks: AsyncGenerator[dict[str, Any], None], events: ResponseEvents) -> AsyncGenerator[bytes, None]:
    """The events that each chunk makes, and at the end those that close the response."""
    async with aclosing(chunks):
        async for chunk in chunks:
            if told := events.take(chunk):
                yield b"".join(map(named_event, told))
    yield b"".join(map(named_event, events.end(int(time.time()))))
