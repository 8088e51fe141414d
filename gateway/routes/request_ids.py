"""Puts `x-request-id` on every answer of the application, whichever route or error handler wrote it."""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.wire.request_id import HEADER, request_id


class RequestIds:
    """Wraps an ASGI application; plain ASGI, so that streams pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the id among the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent: Any = next((value for name, value in scope["headers"] if name == HEADER), None)
        own = request_id(sent)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [header for header in message.get("headers", ()) if header[0] != HEADER]
                message = {**message, "headers": [*headers, (HEADER, own)]}
            await send(message)

        await self._app(scope, receive, send_with_id)
