"""From a bearer key to a `Caller`. Looked-up keys are remembered for a moment, so a revoked one works at most 1 s."""

import time
from collections.abc import Awaitable, Callable

from fastapi import Request

from gateway.access.caller import SCOPES, Caller
from gateway.errors import NotAuthenticated, NotPermitted
from gateway.storage import keys
from gateway.storage.database import Database

REMEMBER_SECONDS = 0.8
REMEMBER_KEYS = 10_000


class Authenticator:
    """Checks bearer keys against the database."""

    def __init__(self, database: Database, open_to_all_as: Caller | None = None) -> None:
        self._database = database
        self._open_to_all_as = open_to_all_as
        self._remembered: dict[str, tuple[float, Caller]] = {}

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller behind an `Authorization` header. Raises `NotAuthenticated`, saying how to get a key."""
        if self._open_to_all_as is not None:
            return self._open_to_all_as
        secret = bearer(authorization)
        fingerprint = keys.sha256_of(secret)
        remembered = self._remembered.get(fingerprint)
        if remembered is not None and remembered[0] > time.monotonic():
            return remembered[1]
        caller = await self._look_up(secret)
        if len(self._remembered) >= REMEMBER_KEYS:
            self._remembered.clear()
        self._remembered[fingerprint] = (time.monotonic() + REMEMBER_SECONDS, caller)
        return caller

    async def _look_up(self, secret: str) -> Caller:
        async with self._database.read() as session:
            key = await keys.find_key(session, secret)
        if key is None:
            raise NotAuthenticated("This API key is not known here. Make one with `alignway keys create --name NAME`.")
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= time.time()):
            raise NotAuthenticated("This API key was revoked or has expired; make another with `alignway keys create`.")
        return Caller(key.id, key.project_id, frozenset(key.scopes), key.name)


def bearer(authorization: str | None) -> str:
    """The key in an `Authorization: Bearer` header."""
    kind, _, secret = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise NotAuthenticated(
            "No API key was sent. Send `Authorization: Bearer KEY`; make a key with `alignway keys create --name NAME`."
        )
    return secret.strip()


def require(scope: str) -> Callable[[Request], Awaitable[Caller]]:
    """A FastAPI dependency: the caller, if its key has `scope`."""
    assert_known(scope)

    async def caller_with_scope(request: Request) -> Caller:
        authenticator: Authenticator = request.app.state.services.authenticator
        caller = await authenticator.authenticate(request.headers.get("authorization"))
        if not caller.may(scope):
            raise NotPermitted(
                f"This API key lacks the scope `{scope}`. Make one with it: `alignway keys create --scopes {scope}`."
            )
        return caller

    return caller_with_scope


def assert_known(scope: str) -> None:
    """Raise ValueError for a scope that does not exist."""
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}; the scopes are {', '.join(SCOPES)}")
