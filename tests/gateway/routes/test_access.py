"""Who is let in: while the database is away, and without keys at all."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Select

from gateway.access import authenticate
from gateway.access.authenticate import EXCUSE_SECONDS, Authenticator
from gateway.access.loopback import refuse_foreign
from gateway.errors import DatabaseUnavailable, NotAuthenticated, NotPermitted
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.glance import Glance, Rows

SECRET = "sk-0123456789abcdef"
BEARER = f"Bearer {SECRET}"


class Clock:
    """Stands for the `time` module."""

    def __init__(self) -> None:
        self.moved = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.moved

    def time(self) -> float:
        return time.time() + self.moved


class Leaving:
    """A database that can go away."""

    def __init__(self, database: Database) -> None:
        self.away, self.asked, self._database = False, 0, database

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Any]:
        self.asked += 1
        if self.away:
            raise DatabaseUnavailable("away")
        async with self._database.read() as session:
            yield session

    def glance(self, looks: Mapping[str, Select[Any]]) -> "LeavingGlance":
        return LeavingGlance(self, self._database.glance(looks))


class LeavingGlance:
    """A look at a database that can go away."""

    def __init__(self, leaving: Leaving, glance: Glance) -> None:
        self._leaving, self._glance = leaving, glance

    async def rows(self, name: str, **values: Any) -> Rows:
        if self._leaving.away:
            self._leaving.asked += 1
            raise DatabaseUnavailable("away")
        return await self._glance.rows(name, **values)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(authenticate, "time", clock)
    return clock


@pytest.fixture
async def leaving(database: Database) -> Leaving:
    async with database.write() as session:
        project = await keys.ensure_project(session)
        await keys.create_key(session, project.id, "test", ("inference", "admin"), SECRET)
    return Leaving(database)


async def test_a_key_seen_lately_serves_inference_while_the_database_is_away(leaving: Leaving, clock: Clock) -> None:
    door = Authenticator(leaving)  # type: ignore[arg-type]
    known = await door.authenticate(BEARER, "inference")
    leaving.away = True
    clock.moved = EXCUSE_SECONDS - 5
    assert await door.authenticate(BEARER, "inference") == known
    with pytest.raises(DatabaseUnavailable):
        await door.authenticate(BEARER, "admin")
    clock.moved = EXCUSE_SECONDS + 1
    with pytest.raises(DatabaseUnavailable):
        await door.authenticate(BEARER, "inference")


async def test_an_excuse_for_inference_is_not_shared_with_an_admin_who_asks_meanwhile(
    leaving: Leaving, clock: Clock
) -> None:
    door = Authenticator(leaving)  # type: ignore[arg-type]
    known = await door.authenticate(BEARER, "inference")
    leaving.away, clock.moved = True, 2.0
    excused, refused = await asyncio.gather(
        door.authenticate(BEARER, "inference"), door.authenticate(BEARER, "admin"), return_exceptions=True
    )
    assert excused == known
    assert isinstance(refused, DatabaseUnavailable)


async def test_a_database_that_is_away_is_not_asked_with_each_request(leaving: Leaving, clock: Clock) -> None:
    door = Authenticator(leaving)  # type: ignore[arg-type]
    await door.authenticate(BEARER, "inference")
    leaving.away, clock.moved = True, 2.0
    for _ in range(20):
        await door.authenticate(BEARER, "inference")
    assert leaving.asked == 2


async def test_a_key_known_to_be_revoked_is_not_excused(leaving: Leaving, database: Database, clock: Clock) -> None:
    door = Authenticator(leaving)  # type: ignore[arg-type]
    caller = await door.authenticate(BEARER, "inference")
    async with database.write() as session:
        await keys.revoke_key(session, caller.key_id)
    clock.moved = 2.0
    with pytest.raises(NotAuthenticated):
        await door.authenticate(BEARER, "inference")
    leaving.away = True
    with pytest.raises(DatabaseUnavailable):
        await door.authenticate(BEARER, "inference")


async def test_a_key_never_seen_is_not_excused(leaving: Leaving) -> None:
    leaving.away = True
    with pytest.raises(DatabaseUnavailable):
        await Authenticator(leaving).authenticate(BEARER, "inference")  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1"])
def test_this_machine_is_let_in_by_all_its_names(host: str) -> None:
    refuse_foreign(host, None)
    refuse_foreign(host, f"http://{host}")


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "localhost.evil.example:8080", "127.0.0.1@evil.example", "[", "10.0.0.1"]
)
def test_a_foreign_host_is_refused(host: str | None) -> None:
    with pytest.raises(NotPermitted) as refused:
        refuse_foreign(host, None)
    assert (refused.value.status, refused.value.code) == (403, "foreign_host")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "https://localhost.evil.example", "http://["])
def test_a_foreign_origin_is_refused(origin: str) -> None:
    with pytest.raises(NotPermitted) as refused:
        refuse_foreign("localhost:8080", origin)
    assert refused.value.code == "foreign_origin"
