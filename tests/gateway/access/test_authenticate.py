"""One look-up for however many ask, ahead of need; and a revoked key ends within its second all the same."""

import asyncio

import pytest
from sqlalchemy import update

from gateway.access import authenticate
from gateway.access.authenticate import Authenticator
from gateway.errors import NotAuthenticated
from gateway.storage import keys
from gateway.storage.database import Database
from gateway.storage.glance import Rows
from gateway.storage.tables import ApiKey


async def made_key(database: Database) -> tuple[str, str]:
    async with database.write() as session:
        project = await keys.ensure_project(session)
        key, secret = await keys.create_key(session, project.id, "a key", ["inference"])
    return key.id, f"Bearer {secret}"


class Counted(Authenticator):
    """Counts how often the database was asked."""

    asked = 0

    async def _find(self, secret: str) -> tuple[authenticate.Caller, float | None, Rows]:
        self.asked += 1
        await asyncio.sleep(0.02)
        return await super()._find(secret)


async def test_many_requests_at_once_ask_the_database_once(database: Database) -> None:
    key_id, header = await made_key(database)
    authenticator = Counted(database)
    assert authenticator.remembered(header) is None
    callers = await asyncio.gather(*(authenticator.authenticate(header) for _ in range(50)))
    assert {caller.key_id for caller in callers} == {key_id}
    assert authenticator.asked == 1


async def test_a_caller_that_is_cancelled_takes_the_look_up_from_nobody(database: Database) -> None:
    key_id, header = await made_key(database)
    authenticator = Counted(database)
    first, second = (asyncio.create_task(authenticator.authenticate(header)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).key_id == key_id


async def test_a_key_in_use_is_looked_up_before_it_is_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticate, "REFRESH_SECONDS", 0.05)
    _, header = await made_key(database)
    authenticator = Counted(database)
    await authenticator.authenticate(header)
    for _ in range(40):  # longer than a key is remembered
        assert authenticator.remembered(header) is not None
        await asyncio.sleep(0.03)
    assert 5 <= authenticator.asked < 40  # not once per request, and never too late


async def test_a_revoked_key_in_steady_use_ends_within_a_second(database: Database) -> None:
    key_id, header = await made_key(database)
    authenticator = Authenticator(database)
    await authenticator.authenticate(header)
    async with database.write() as session:
        await keys.revoke_key(session, key_id)
    loop = asyncio.get_running_loop()
    revoked_at = loop.time()
    while authenticator.remembered(header) is not None:
        assert loop.time() - revoked_at < 1.0
        await asyncio.sleep(0.01)
    with pytest.raises(NotAuthenticated):
        await authenticator.authenticate(header)


async def test_what_changes_of_a_key_in_use_shows_within_a_second(database: Database) -> None:
    key_id, header = await made_key(database)
    authenticator = Authenticator(database)
    before = await authenticator.authenticate(header)
    loop = asyncio.get_running_loop()
    changed_at = loop.time()
    async with database.write() as session:
        await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(scopes=["inference", "metrics"]))
    while (caller := authenticator.remembered(header) or await authenticator.authenticate(header)) == before:
        assert loop.time() - changed_at < 1.0
        await asyncio.sleep(0.01)
    assert caller.scopes == {"inference", "metrics"}
    await authenticator.close()
