"""A glance at a counter sees what is committed, and survives a database that goes away."""

import pytest

from gateway.errors import DatabaseUnavailable
from gateway.storage.counter_glance import CounterGlance
from gateway.storage.counters import next_value
from gateway.storage.database import Database


async def test_a_glance_sees_what_is_committed_and_nothing_else(database: Database) -> None:
    glance = CounterGlance(database.url, "routing")
    assert await glance.value() == 0
    for expected in (1, 2):
        async with database.write() as session:
            await next_value(session, "routing")
            assert await glance.value() == expected - 1
        assert await glance.value() == expected
    await glance.close()
    assert await glance.value() == 2  # it opens again by itself
    await glance.close()


async def test_options_of_sqlalchemy_in_the_url_are_not_the_driver_s(postgres_url: str) -> None:
    url = f"{postgres_url}&prepared_statement_cache_size=0"
    glance, database = CounterGlance(url, "routing"), Database(url)
    async with database.write() as session:
        await next_value(session, "routing")
    assert await glance.value() == 1
    await glance.close()
    await database.close()


async def test_a_database_that_cannot_be_read_is_unavailable() -> None:
    glance = CounterGlance("sqlite+aiosqlite:////nonexistent/folder/alignway.db", "routing")
    with pytest.raises(DatabaseUnavailable):
        await glance.value()
