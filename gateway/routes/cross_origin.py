"""Web pages of other origins may send votes, where the settings name them; everything else stays with servers."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.feedback.tokens import HEADER

PATH = "/v1/feedback"
HEADERS = ("authorization", "content-type", "idempotency-key", HEADER, "x-request-id")


class VotesFromPages:
    """CORS for one route alone. No cookies: a vote token is what counts."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["POST"],
            allow_headers=HEADERS,
            expose_headers=["retry-after", "x-request-id"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with or without leave for other origins."""
        votes = scope["type"] == "http" and scope["path"] == PATH
        await (self._open if votes else self._app)(scope, receive, send)


def allow_votes_from_pages(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of these origins send votes; none: leave the application as it is."""
    if origins:
        app.add_middleware(VotesFromPages, origins=origins)
