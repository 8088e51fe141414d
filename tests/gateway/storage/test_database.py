"""Transactions over SQLite and PostgreSQL: what is committed, what is not, and which error a caller meets."""

import asyncio
import gc
import random

import pytest
from sqlalchemy import func, select, text

from gateway.errors import DatabaseUnavailable
from gateway.storage.counters import current_value, next_value
from gateway.storage.database import Database
from gateway.storage.tables import Project


def project(name: str) -> Project:
    return Project(id=f"proj_{name}", name=name, created_at=1.0)


async def count(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(Project)) or 0


async def test_what_was_written_is_there_for_the_next_transaction(database: Database) -> None:
    async with database.write() as session:
        session.add(project("a"))
    assert await count(database) == 1


async def test_an_exception_in_the_block_takes_everything_back(database: Database) -> None:
    async def write_and_stumble() -> None:
        async with database.write() as session:
            session.add(project("a"))
            await session.flush()
            raise ValueError("stumbled")

    with pytest.raises(ValueError, match="stumbled"):
        await write_and_stumble()
    assert await count(database) == 0


async def test_concurrent_callers_never_get_the_same_counter_value(database: Database) -> None:
    async def take() -> int:
        async with database.write() as session:
            return await next_value(session, "epoch")

    values = await asyncio.gather(*(take() for _ in range(20)))
    assert sorted(values) == list(range(1, 21))
    async with database.read() as session:
        assert await current_value(session, "epoch") == 20


async def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.write() as session:
        session.add(project("a"))
        await session.flush()
        assert await asyncio.wait_for(count(database), timeout=2) == 0


async def test_a_cancelled_writer_lets_go_of_its_lock_though_python_has_not_looked_for_cycles(sqlite_url: str) -> None:
    database, chance = Database(sqlite_url, wait_seconds=1.0), random.Random(7)

    async def write_again_and_again(name: str) -> None:
        for number in range(1000):
            async with database.write() as session:
                session.add(project(f"{name} {number}"))
                await session.flush()
                await session.execute(select(Project).limit(50))

    gc.disable()
    try:
        for round_number in range(60):
            writers = [asyncio.create_task(write_again_and_again(f"{round_number} {lane}")) for lane in range(3)]
            await asyncio.sleep(chance.uniform(0, 0.02))
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)
            async with database.write() as session:  # raises where the file is locked
                session.add(project(f"after {round_number}"))
    finally:
        gc.enable()
        await database.close()


async def test_votes_are_flushed_to_disk_and_completions_are_not_waited_for(database: Database) -> None:
    question, durable, relaxed = {
        "sqlite": ("PRAGMA synchronous", 2, 1),
        "postgresql": ("SHOW synchronous_commit", "on", "off"),
    }[database.dialect]
    async with database.write("durable") as session:
        assert await session.scalar(text(question)) == durable
    async with database.write("relaxed") as session:
        assert await session.scalar(text(question)) == relaxed


async def test_a_database_out_of_reach_is_an_answer_not_a_crash() -> None:
    database = Database("postgresql+asyncpg://postgres@/alignway?host=/nonexistent")
    with pytest.raises(DatabaseUnavailable):
        await count(database)
    await database.close()
