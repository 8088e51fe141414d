"""Which run an aligner is given, on each kind of database."""

from typing import Any

import pytest

from gateway.contracts.training import TrainingOptions
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import (
    claim_next_run,
    create_run,
    pause_run,
    renew_run_lease,
    request_cancel,
    request_pause,
    resume_run,
)
from gateway.storage.tables import Alias, Project

LEASE_SECONDS = 60.0


@pytest.fixture
async def alias(database: Database) -> str:
    """An alias to train."""
    fields: dict[str, Any] = {"base_release_id": "rel_1", "serving_release_id": "rel_1", "created_at": 0.0}
    async with database.write() as session:
        session.add(Project(id="proj_1", name="one", created_at=0.0))
        await session.flush()
        session.add(Alias(name="assistant", project_id="proj_1", updated_at=0.0, **fields))
    return "assistant"


async def create(database: Database, alias: str, at: float) -> str:
    async with database.write() as session:
        options = TrainingOptions()
        return (await create_run(session, alias=alias, trigger="manual", actor="k", options=options, now=at)).id


async def claim(database: Database, at: float) -> str | None:
    async with database.write() as session:
        run = await claim_next_run(session, "aligner", LEASE_SECONDS, at)
        return run.id if run else None


async def test_after_a_clock_went_back_a_new_run_still_waits_for_the_one_at_work(
    database: Database, alias: str
) -> None:
    at_work = await create(database, alias, at=5000.0)
    assert await claim(database, at=5000.0) == at_work
    await create(database, alias, at=1000.0)
    assert await claim(database, at=5001.0) is None


async def test_an_abandoned_run_is_taken_up_before_one_that_seems_older(database: Database, alias: str) -> None:
    abandoned = await create(database, alias, at=5000.0)
    assert await claim(database, at=5000.0) == abandoned
    await create(database, alias, at=1000.0)
    assert await claim(database, at=5000.0 + LEASE_SECONDS + 1) == abandoned


async def test_a_paused_run_waits_and_lets_those_behind_it_go(database: Database, alias: str) -> None:
    first, second = [await create(database, alias, at=at) for at in (1000.0, 2000.0)]
    async with database.write() as session:
        request_pause(await session.get_one(Run, first))
    assert await claim(database, at=3000.0) == second
    async with database.write() as session:
        resume_run(await session.get_one(Run, first))
    assert await claim(database, at=3000.0 + LEASE_SECONDS + 1) == second  # what is at work comes first
    async with database.write() as session:
        await request_cancel(session, await session.get_one(Run, second), 4000.0)
    assert await claim(database, at=4000.0 + LEASE_SECONDS) == first


async def test_a_run_at_work_is_paused_by_its_aligner_unless_the_wish_is_taken_back(
    database: Database, alias: str
) -> None:
    run_id = await create(database, alias, at=1000.0)
    assert await claim(database, at=1000.0) == run_id
    async with database.write() as session:
        request_pause(await session.get_one(Run, run_id))
        assert await renew_run_lease(session, run_id, "aligner", LEASE_SECONDS, 1001.0) == "pause"
        resume_run(await session.get_one(Run, run_id))
        assert not await pause_run(session, run_id, "aligner")
        request_pause(await session.get_one(Run, run_id))
        assert await pause_run(session, run_id, "aligner", attempts=0)
    async with database.read() as session:
        run = await session.get_one(Run, run_id)
    assert (run.state, run.holder, run.attempts, run.pause_requested) == ("paused", None, 0, False)


async def test_a_run_that_was_to_pause_when_its_aligner_died_is_paused(database: Database, alias: str) -> None:
    run_id = await create(database, alias, at=1000.0)
    assert await claim(database, at=1000.0) == run_id
    async with database.write() as session:
        request_pause(await session.get_one(Run, run_id))
    assert await claim(database, at=1000.0 + LEASE_SECONDS + 1) is None
    async with database.read() as session:
        assert (await session.get_one(Run, run_id)).state == "paused"
