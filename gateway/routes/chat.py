"""`POST /v1/chat/completions` by way of the application.

Workers answer this route in `gateway/relay/lane.py`, before the application hears of it. What the lane leaves to others
(HTTP/1.0, a request behind another one, an address with a query, a large body from a key that was not looked up lately)
comes here, and is answered by the same exchange.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.routes.body import read_body
from gateway.routes.event_stream import EventStream, error_event, unless_left
from gateway.routes.exchange import Exchange
from gateway.services import Services
from gateway.wire.chat import parse_chat_request

router = APIRouter()


@router.post("/v1/chat/completions")
async def create_chat_completion(
    request: Request, caller: Annotated[Caller, Depends(require("inference"))]
) -> Response:
    """A completion by the release that the alias serves, whole or streamed."""
    services: Services = request.app.state.services
    chat = parse_chat_request(await read_body(request, images=caller.images), services.settings.surface)
    exchange = Exchange(services, caller, chat, request)
    await exchange.admit()
    if not chat.stream:
        reply = await unless_left(request, exchange.reply())
        return Response(reply, media_type="application/json", headers=exchange.headers)
    events = exchange.events()
    first = await unless_left(request, anext(events))
    return EventStream(services.drain, first, events, error_event, exchange.headers)
