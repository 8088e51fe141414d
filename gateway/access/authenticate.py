"""From a bearer key to a `Caller`. Looked-up keys are remembered for a moment, so a revoked one works at most 1 s.

Only while the database is away, a key that was good within the last minutes goes on being good for inference.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from gateway.access.caller import SCOPES, Caller, KeyLimits
from gateway.access.loopback import refuse_foreign
from gateway.errors import DatabaseUnavailable, NotAuthenticated, NotPermitted
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.glance import Rows
from gateway.storage.tables import ApiKey

REMEMBER_SECONDS = 0.8
REFRESH_SECONDS = 0.4
"""A key in use is looked up anew after this long, while requests still go by what is remembered: none waits for it."""
REMEMBER_KEYS = 10_000
EXCUSE_SECONDS = 300.0
"""Without a database, a key serves inference for this long after it was last looked up."""
PATIENCE_SECONDS = 2.0
"""A database that has not answered by then counts as away, for a key that can be excused."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    caller: Caller
    looked_up_at: float
    good_until: float
    """Monotonic, like `looked_up_at`: a key that expires before the moment is over ends with its expiry."""
    expires_at: float | None
    row: Rows
    """The key as it was found."""


class Authenticator:
    """Checks bearer keys against the database."""

    def __init__(self, database: Database, open_to_all_as: Caller | None = None) -> None:
        self._database = database
        self._glance = database.glance({"key": keys.GLANCE})
        self._open_to_all_as = open_to_all_as
        self._remembered: dict[str, _Remembered] = {}
        self._away_until = float("-inf")
        self._look_ups: dict[tuple[str, bool], asyncio.Task[Caller]] = {}
        """Under way, by key: however many requests ask at once, the database is asked once."""

    @property
    def open_to_all(self) -> bool:
        """Whether callers need no key."""
        return self._open_to_all_as is not None

    def remembered(self, authorization: str | None) -> Caller | None:
        """The caller, if it was looked up within the last moment; None: use `await authenticate`."""
        # The header itself is looked up, not a digest of it: a string is compared only once its hash agrees, and
        # Python's hashes of strings are keyed anew in each process, so a clock tells nothing of the keys held here.
        if self._open_to_all_as is not None:
            return self._open_to_all_as
        known = self._remembered.get(authorization or "")
        now = time.monotonic()
        if known is None or now >= known.good_until:
            return None
        if now >= known.looked_up_at + REFRESH_SECONDS:
            self._begin_look_up(bearer(authorization), known)
        return known.caller

    async def authenticate(self, authorization: str | None, scope: str | None = None) -> Caller:
        """The caller behind an `Authorization` header. Raises `NotAuthenticated`, saying how to get a key."""
        if self._open_to_all_as is not None:
            return self._open_to_all_as
        secret = bearer(authorization)
        known = self._remembered.get(f"Bearer {secret}")
        now = time.monotonic()
        if known is not None and now < known.good_until:
            return known.caller
        excusable = known if known is not None and scope == "inference" and _may_be_excused(known, now) else None
        if excusable is not None and now < self._away_until:
            return excusable.caller
        # The look-up is shared: a caller that is cancelled takes it from nobody else.
        return await asyncio.shield(self._begin_look_up(secret, excusable))

    def _begin_look_up(self, secret: str, excusable: _Remembered | None) -> asyncio.Task[Caller]:
        # Apart by whether it may end in an excuse: that is for inference, and nobody else shall have it.
        name = (secret, excusable is not None)
        found = self._look_ups.get(name)
        if found is None:
            found = self._look_ups[name] = asyncio.create_task(self._look_up_in_time(secret, excusable))
            found.add_done_callback(lambda done: self._looked_up(name, done))
        return found

    def _looked_up(self, name: tuple[str, bool], done: asyncio.Task[Caller]) -> None:
        self._look_ups.pop(name, None)
        if not done.cancelled():
            done.exception()  # seen: nobody may have waited for it

    async def _look_up_in_time(self, secret: str, excusable: _Remembered | None) -> Caller:
        began = time.monotonic()
        try:
            async with asyncio.timeout(None if excusable is None else PATIENCE_SECONDS):
                caller, expires_at, row = await self._find(secret)
        except NotAuthenticated:
            self._remembered.pop(f"Bearer {secret}", None)
            raise
        except (DatabaseUnavailable, TimeoutError):
            if excusable is None:
                raise
            self._away_until = time.monotonic() + REMEMBER_SECONDS  # do not wait for it anew with each request
            return excusable.caller
        if len(self._remembered) >= REMEMBER_KEYS:
            self._remembered.clear()
        left = REMEMBER_SECONDS if expires_at is None else min(REMEMBER_SECONDS, expires_at - time.time())
        # Spelt one way, however the header was: a client cannot fill the memory with spellings of one key.
        self._remembered[f"Bearer {secret}"] = _Remembered(caller, began, began + left, expires_at, row)
        return caller

    async def _find(self, secret: str) -> tuple[Caller, float | None, Rows]:
        """The caller, as long as its key has not changed the very same object, and the key's row."""
        row = await self._glance.rows("key", digest=keys.sha256_of(secret))
        known = self._remembered.get(f"Bearer {secret}")
        if known is not None and known.row == row and (known.expires_at is None or known.expires_at > time.time()):
            return known.caller, known.expires_at, row
        return *await self._look_up(secret), row

    async def _look_up(self, secret: str) -> tuple[Caller, float | None]:
        async with self._database.read() as session:
            key = await keys.find_key(session, secret)
        if key is None:
            raise NotAuthenticated("This API key is not known here. Make one with `alignway keys create --name NAME`.")
        expires_at = keys.expiry_of(key, secret)
        if key.revoked_at is not None or (expires_at is not None and expires_at <= time.time()):
            raise NotAuthenticated(
                "This API key was revoked, was rotated or has expired; make another with `alignway keys create`."
            )
        return caller_of(key), expires_at

    async def close(self) -> None:
        """Close the connection that is kept for looks."""
        await self._glance.close()


def caller_of(key: ApiKey) -> Caller:
    """The caller that a key makes of whoever sends it."""
    limits = KeyLimits(key.requests_per_minute, key.tokens_per_minute, key.streams)
    return Caller(key.id, key.project_id, frozenset(key.scopes), key.name, limits, key.images)


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
        check_scope(caller, scope)
        return caller

    return caller_with_scope


def check_scope(caller: Caller, scope: str) -> None:
    """Raise `NotPermitted` unless the caller's key has the scope."""
    if not caller.may(scope):
        raise NotPermitted(
            f"This API key lacks the scope `{scope}`. Make one with it: `alignway keys create --scopes {scope}`."
        )


def assert_known(scope: str) -> None:
    """Raise ValueError for a scope that does not exist."""
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}; the scopes are {', '.join(SCOPES)}")
