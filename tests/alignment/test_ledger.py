"""What an aligner writes about its run is gathered, fenced by its lease, and undone by nobody else's."""

import asyncio

import pytest

from alignment.ledger import RunLedger
from gateway.contracts.training import TrainingOptions
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import RunLeaseLost, claim_next_run, create_run, find_run, list_run_events
from gateway.storage.tables import Alias, Project

NOW = 1_795_000_000.0


@pytest.fixture
async def run_id(database: Database) -> str:
    """A run that `first` holds for 15 seconds from `NOW`, on each kind of database."""
    async with database.write() as session:
        session.add(Project(id="proj_1", name="default", created_at=NOW))
        await session.flush()
        alias = Alias(name="a", project_id="proj_1", base_release_id="b", serving_release_id="b", created_at=NOW)
        alias.updated_at = NOW
        session.add(alias)
        await session.flush()
        run = await create_run(session, alias="a", trigger="manual", actor="key_1", options=TrainingOptions(), now=NOW)
        await claim_next_run(session, "first", 15.0, NOW)
    return run.id


def ledger_of(database: Database, run_id: str, holder: str, at: float = NOW) -> RunLedger:
    return RunLedger(database, run_id, holder, 15.0, clock=lambda: at)


async def read(database: Database, run_id: str) -> Run:
    async with database.read() as session:
        run = await find_run(session, run_id)
    assert run is not None
    return run


async def test_what_two_write_at_once_is_written_once(database: Database, run_id: str) -> None:
    ledger = ledger_of(database, run_id, "first", NOW + 3)
    for text in ("one", "two"):
        ledger.note(text)
    await asyncio.gather(ledger.flush(), ledger.flush())
    ledger.note("three")
    await ledger.flush()
    async with database.read() as session:
        assert [event.message for event in await list_run_events(session, run_id)] == ["one", "two", "three"]


async def test_what_was_noted_is_written_in_its_order_with_the_progress(database: Database, run_id: str) -> None:
    ledger = ledger_of(database, run_id, "first", NOW + 3)
    ledger.change(stage="training", progress=0.25)
    ledger.note("begin")
    for step in (1, 2, 3):
        ledger.measure({"step": step, "steps": 3, "loss": 1.0 / step})
    await ledger.flush()
    run = await read(database, run_id)
    assert (run.stage, run.progress, run.lease_expires_at) == ("training", 0.25, NOW + 18)
    async with database.read() as session:
        events = await list_run_events(session, run_id)
    assert [event.message for event in events] == [
        "begin",
        "step 1 of 3: loss 1.0000",
        "step 2 of 3: loss 0.5000",
        "step 3 of 3: loss 0.3333",
    ]
    assert events[1].data == {"step": 1, "steps": 3, "loss": 1.0}


async def test_nothing_is_written_twice(database: Database, run_id: str) -> None:
    ledger = ledger_of(database, run_id, "first")
    ledger.note("once")
    await ledger.flush()
    await ledger.flush()
    async with database.read() as session:
        assert len(await list_run_events(session, run_id)) == 1


async def test_after_its_lease_ran_out_a_stale_holder_can_write_and_finish_nothing(
    database: Database, run_id: str
) -> None:
    stale = ledger_of(database, run_id, "first", NOW + 16)
    async with database.write() as session:
        reclaimed = await claim_next_run(session, "second", 15.0, NOW + 16)
    assert reclaimed is not None
    assert (reclaimed.id, reclaimed.attempts) == (run_id, 2)
    stale.note("from the grave")
    with pytest.raises(RunLeaseLost):
        await stale.flush()
    with pytest.raises(RunLeaseLost):
        await stale.finish("failed", "not yours")
    run = await read(database, run_id)
    assert (run.state, run.holder, run.error) == ("running", "second", None)
    async with database.read() as session:
        assert not await list_run_events(session, run_id)


async def test_a_run_given_back_waits_as_long_as_was_said(database: Database, run_id: str) -> None:
    await ledger_of(database, run_id, "first").give_back(4.0, error="killed")
    async with database.write() as session:
        assert await claim_next_run(session, "second", 15.0, NOW + 3.9) is None
        again = await claim_next_run(session, "second", 15.0, NOW + 4.1)
    assert again is not None
    assert (again.id, again.error) == (run_id, "killed")


async def test_while_kept_the_lease_is_renewed_and_a_loss_is_noticed(
    database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignment.ledger.BEAT_SECONDS", 0.02)
    ledger = ledger_of(database, run_id, "first", NOW + 10)
    async with ledger.kept():
        ledger.note("beat")
        while (await read(database, run_id)).lease_expires_at != NOW + 25:
            await asyncio.sleep(0.02)
        async with database.write() as session:
            await claim_next_run(session, "second", 15.0, NOW + 30)
        ledger.note("beat")
        await asyncio.wait_for(ledger.lost.wait(), 10)


async def test_once_ended_a_run_is_not_renewed(
    database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignment.ledger.BEAT_SECONDS", 0.02)
    ledger = ledger_of(database, run_id, "first")
    async with ledger.kept():
        await ledger.finish("failed", "too few pairs")
        ledger.note("too late")
        await asyncio.sleep(0.1)
        assert not ledger.lost.is_set()
    assert (await read(database, run_id)).error == "too few pairs"
