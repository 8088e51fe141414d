"""`Idempotency-Key`: a POST that is sent again with the same key is answered again, and not done again.

The route class `IdempotentRoute` does it for every POST of a router. A request is claimed in the database before it is
carried out, and its answer kept for 24 h, so that this holds over all workers and after a kill. Routes that write votes
keep the answer in the transaction of the vote (`kept_with`); for others it is kept right after. Requests that fail are
forgotten: they may be sent again.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Message, Receive, Scope, Send

from gateway.access.loopback import refuse_foreign
from gateway.errors import Conflict, InvalidRequest
from gateway.routes.body import read_body
from gateway.services import Services
from gateway.storage.idempotency import Claim, claim_request, keep_answer, let_go

HEADER = "idempotency-key"
REPLAYED = {"idempotent-replayed": "true"}
LONGEST_KEY = 255
Handler = Callable[[Request], Awaitable[Response]]


class OtherBody(Conflict):
    """The key was used for another request."""

    code = "idempotency_conflict"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used for another request within the last 24 hours. Take another key."
        )


class InProgress(Conflict):
    """The first request with this key has no answer yet."""

    code = "in_progress"
    retry_after_seconds = 1.0

    def __init__(self) -> None:
        super().__init__("The first request with this Idempotency-Key is still in progress. Try again in a moment.")


class Withheld(Conflict):
    """The request was done, but its answer held a secret and was not kept."""

    code = "already_done"

    def __init__(self) -> None:
        super().__init__(
            "This request was carried out before. Its answer held a secret, which is not kept, so it cannot be shown "
            "again: GET /admin/v1/keys lists the keys, and POST /admin/v1/keys/{key_id}/rotate gives one a new secret."
        )


class IdempotentRoute(APIRoute):
    """A route whose POST honours `Idempotency-Key`."""

    keeps_reply = True

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The framework's handler; behind a claim, if the header is there."""
        handler = super().get_route_handler()
        return self._claiming(handler) if "POST" in self.methods else handler

    def _claiming(self, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            name = request.headers.get(HEADER)
            if name is None:
                return await handler(request)
            return await _once(request, name, handler, self.keeps_reply)

        return handle


class PlainRoute(IdempotentRoute):
    """One whose endpoint takes nothing but the request and returns the response itself.

    The framework has nothing to work out for it, which for a vote would take as long as all the rest before the
    database: only the description of the API and the handlers of errors are its own.
    """

    def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = self._answer
        self._handle = self._claiming(endpoint)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handle(Request(scope, receive))
        await response(scope, receive, send)


class SecretRoute(IdempotentRoute):
    """One whose answers hold a secret: they are not kept, and a replay is told so."""

    keeps_reply = False


def is_claimed(request: Request) -> bool:
    """Whether the request carries an `Idempotency-Key`."""
    return HEADER in request.headers


async def kept_with(request: Request, session: AsyncSession, answer: Response) -> None:
    """Keep the answer to a request in the transaction that did it, if the request carries a key."""
    claim: Claim | None = getattr(request.state, "idempotency", None)
    if claim is not None:
        await keep_answer(session, claim, answer.status_code, _text(answer))
        request.state.idempotency_kept = True


async def _once(request: Request, name: str, handler: Handler, keeps_reply: bool) -> Response:
    if not 1 <= len(name) <= LONGEST_KEY:
        raise InvalidRequest(f"`Idempotency-Key` has 1 to {LONGEST_KEY} characters.", code="invalid_value")
    services: Services = request.app.state.services
    if services.authenticator.open_to_all:
        refuse_foreign(request.headers.get("host"), request.headers.get("origin"))
    caller = await services.authenticator.authenticate(request.headers.get("authorization"))
    body = await read_body(request)
    digest, worker_id = _digest(request, body), services.sync.worker_id
    claim = await services.votes.submit(lambda session: claim_request(session, caller.key_id, name, digest, worker_id))
    if not claim.is_ours:
        return _replay(claim, digest)
    request.state.idempotency = claim
    try:
        response = await handler(Request(request.scope, _again(body, request.receive)))
    except Exception:
        await services.votes.submit(lambda session: let_go(session, claim))
        raise
    if not getattr(request.state, "idempotency_kept", False):
        await services.votes.submit(lambda session: _settle(session, claim, response, keeps_reply))
    return response


async def _settle(session: AsyncSession, claim: Claim, response: Response, keeps_reply: bool) -> None:
    if not 200 <= response.status_code < 300:
        await let_go(session, claim)
    else:
        await keep_answer(session, claim, response.status_code, _text(response) if keeps_reply else None)


def _replay(claim: Claim, digest: str) -> Response:
    if claim.digest != digest:
        raise OtherBody
    if claim.status is None:
        raise InProgress
    if claim.reply is None:
        raise Withheld
    return Response(claim.reply, claim.status, REPLAYED, media_type="application/json")


def _digest(request: Request, body: bytes) -> str:
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(asked + body).hexdigest()


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, to be read once more; then whatever else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


def _text(response: Response) -> str:
    return bytes(response.body).decode()
