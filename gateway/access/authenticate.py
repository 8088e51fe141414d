"""From a bearer key to a `Caller`. Looked-up keys are remembered for a moment, so a revoked one works at most 1 s.

Only while the database is away, a key that was good within the last minutes goes on being good for inference.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from gateway.access.caller import SCOPES, Caller
from gateway.access.loopback import refuse_foreign
from gateway.errors import DatabaseUnavailable, NotAuthenticated, NotPermitted
from gateway.storage import keys
from gateway.storage.database import Database

REMEMBER_SECONDS = 0.8
REMEMBER_KEYS = 10_000
EXCUSE_SECONDS = 300.0
"""Without a database, a key serves inference for this long after it was last looked up."""
PATIENCE_SECONDS = 2.0
"""A database that has not answered by then counts as away, for a key that can be excused."""


@dataclass(frozen=True)
class _Remembered:
    caller: Caller
    looked_up_at: float
    expires_at: float | None


class Authenticator:
    """Checks bearer keys against the database."""

    def __init__(self, database: Database, open_to_all_as: Caller | None = None) -> None:
        self._database = database
        self._open_to_all_as = open_to_all_as
        self._remembered: dict[str, _Remembered] = {}
        self._away_until = float("-inf")

    @property
    def open_to_all(self) -> bool:
        """Whether callers need no key."""
        return self._open_to_all_as is not None

    def remembered(self, authorization: str | None) -> Caller | None:
        """The caller, if it was looked up within the last moment; None: use `await authenticate`."""
        if self._open_to_all_as is not None:
            return self._open_to_all_as
        return None

    async def authenticate(self, authorization: str | None, scope: str | None = None) -> Caller:
        """The caller behind an `Authorization` header. Raises `NotAuthenticated`, saying how to get a key."""
        if self._open_to_all_as is not None:
            return self._open_to_all_as
        secret = bearer(authorization)
        fingerprint = keys.sha256_of(secret)
        known = self._remembered.get(fingerprint)
        now = time.monotonic()
        if known is not None and now < known.looked_up_at + REMEMBER_SECONDS:
            return known.caller
        excusable = known if known is not None and scope == "inference" and _may_be_excused(known, now) else None
        if excusable is not None and now < self._away_until:
            return excusable.caller
        return await self._look_up_in_time(secret, fingerprint, excusable)

    async def _look_up_in_time(self, secret: str, fingerprint: str, excusable: _Remembered | None) -> Caller:
        began = time.monotonic()
        try:
            async with asyncio.timeout(None if excusable is None else PATIENCE_SECONDS):
                found = await self._look_up(secret)
        except NotAuthenticated:
            self._remembered.pop(fingerprint, None)
            raise
        except (DatabaseUnavailable, TimeoutError):
            if excusable is None:
                raise
            self._away_until = time.monotonic() + REMEMBER_SECONDS  # do not wait for it anew with each request
            return excusable.caller
        if len(self._remembered) >= REMEMBER_KEYS:
            self._remembered.clear()
        self._remembered[fingerprint] = _Remembered(found[0], began, found[1])
        return found[0]

    async def _look_up(self, secret: str) -> tuple[Caller, float | None]:
        async with self._database.read() as session:
            key = await keys.find_key(session, secret)
        if key is None:
            raise NotAuthenticated("This API key is not known here. Make one with `alignway keys create --name NAME`.")
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= time.time()):
            raise NotAuthenticated("This API key was revoked or has expired; make another with `alignway keys create`.")
        return Caller(key.id, key.project_id, frozenset(key.scopes), key.name), key.expires_at


def _may_be_excused(known: _Remembered, now: float) -> bool:
    expired = known.expires_at is not None and known.expires_at <= time.time()
    return not expired and now < known.looked_up_at + EXCUSE_SECONDS


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
        if authenticator.open_to_all:
            refuse_foreign(request.headers.get("host"), request.headers.get("origin"))
        caller = await authenticator.authenticate(request.headers.get("authorization"), scope)
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
