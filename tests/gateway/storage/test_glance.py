"""A glance sees what is committed, and survives a database that goes away."""

import pytest
from sqlalchemy import bindparam, select

from gateway.errors import DatabaseUnavailable
from gateway.storage.counters import next_value
from gateway.storage.database import Database
from gateway.storage.glance import make_glance
from gateway.storage.tables import Counter

LOOKS = {
    "one": select(Counter.value).where(Counter.name == "routing"),
    "named": select(Counter.name, Counter.value).where(Counter.name == bindparam("which")),
}


async def test_a_glance_sees_what_is_committed_and_nothing_else(database: Database) -> None:
    glance = make_glance(database.url, LOOKS)
    assert await glance.rows("one") == []
    for expected in (1, 2):
        async with database.write() as session:
            await next_value(session, "routing")
            assert await glance.rows("one") == ([(expected - 1,)] if expected > 1 else [])
        assert await glance.rows("one") == [(expected,)]
    await glance.close()
    assert await glance.rows("one") == [(2,)]  # it opens again by itself
    await glance.close()


async def test_a_glance_looks_for_what_it_is_told(database: Database) -> None:
    glance = make_glance(database.url, LOOKS)
    async with database.write() as session:
        await next_value(session, "this")
        await next_value(session, "that")
        await next_value(session, "that")
    assert await glance.rows("named", which="that") == [("that", 2)]
    assert await glance.rows("named", which="this") == [("this", 1)]
    assert await glance.rows("named", which="neither") == []
    await glance.close()


async def test_options_of_sqlalchemy_in_the_url_are_not_the_driver_s(postgres_url: str) -> None:
    url = f"{postgres_url}&prepared_statement_cache_size=0"
    glance, database = make_glance(url, LOOKS), Database(url)
    async with database.write() as session:
        await next_value(session, "routing")
    assert await glance.rows("one") == [(1,)]
    await glance.close()
    await database.close()


async def test_a_database_that_cannot_be_read_is_unavailable() -> None:
    glance = make_glance("sqlite+aiosqlite:////nonexistent/folder/alignway.db", LOOKS)
    with pytest.raises(DatabaseUnavailable):
        await glance.rows("one")
