"""A worker beats before it reads, and nothing that goes wrong ends its keeping in step."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import DatabaseUnavailable
from gateway.routing import sync
from gateway.routing.pool import Pool
from gateway.routing.sync import RoutingSync
from gateway.routing.table import RoutingTable
from gateway.settings import SwapSettings
from gateway.storage import routing_state
from gateway.storage.database import Database
from gateway.storage.tables import GatewayWorker


async def test_the_first_step_beats_before_it_reads(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    workers_seen: list[int] = []

    async def look(session: AsyncSession, epoch: int) -> RoutingTable:
        workers_seen.append(len((await session.scalars(select(GatewayWorker))).all()))
        return RoutingTable(epoch)

    monkeypatch.setattr(sync, "load_table", look)
    await RoutingSync(database, Pool(SwapSettings())).step()
    assert workers_seen == [1]


async def test_a_beat_says_which_epoch_is_obeyed(database: Database) -> None:
    ours = RoutingSync(database, Pool(SwapSettings()))
    async with database.write() as session:
        epoch = await routing_state.bump_epoch(session)
    await ours.step()
    async with database.read() as session:
        assert (await session.get_one(GatewayWorker, ours.worker_id)).epoch == epoch


@pytest.mark.parametrize("error", [ValueError("a bug"), PoolTimeoutError("pool"), DatabaseUnavailable("away")])
async def test_whatever_goes_wrong_the_next_step_is_taken(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    steps = 0

    async def stumble(_: RoutingSync) -> None:
        nonlocal steps
        steps += 1
        raise error

    monkeypatch.setattr(sync, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(RoutingSync, "step", stumble)
    running = asyncio.create_task(RoutingSync(database, Pool(SwapSettings())).run())
    async with asyncio.timeout(10):
        while steps < 3:
            assert not running.done()
            await asyncio.sleep(0.01)
    running.cancel()


async def test_while_nothing_can_be_written_the_table_is_still_read(sqlite_url: str) -> None:
    database = Database(sqlite_url, 0.1)
    pool = Pool(SwapSettings())
    ours = RoutingSync(database, pool)
    async with database.write() as session:
        epoch = await routing_state.bump_epoch(session)
    async with write_locked(sqlite_url.partition("///")[2]):
        with pytest.raises(DatabaseUnavailable):
            await ours.step()
    assert pool.table.epoch == epoch
    await database.close()


@asynccontextmanager
async def write_locked(path: str) -> AsyncIterator[None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


async def test_a_pool_that_ran_dry_is_database_trouble(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with database.read():
            raise PoolTimeoutError("QueuePool limit reached")
