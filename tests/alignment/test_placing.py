"""The aligner finds a run its place: what is free on this machine, and an engine that it borrows and gives back."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alignment import worker as worker_module
from alignment.devices import _cgroup_limit, _visible, find_devices, read_gpus
from alignment.errors import AlignmentError, TrainingStopped
from alignment.jobs.client import trainer_process
from alignment.ledger import RunLedger
from alignment.placing import NoEngineFree, barred_aliases, placed
from alignment.worker import Worker
from gateway.contracts.training import TrainingOptions
from gateway.sections.aligner import AlignerSettings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import claim_next_run, create_run, list_run_events
from gateway.storage.tables import Replica
from tests.gateway.rollout.served import ALIAS, REPLICA, Served

NVIDIA_SMI = """0, NVIDIA H200, GPU-aa11, 143771, 140000
1, NVIDIA H200, GPU-bb22, 143771, 512
2, NVIDIA H200, GPU-cc33, [N/A], [N/A]
"""
MIB = 1 << 20


@pytest.fixture
async def served(sqlite_url: str) -> AsyncIterator[Served]:
    database = Database(sqlite_url)
    served = Served(database)
    await served.prepare()
    yield served
    await database.close()


async def claimed(served: Served, **columns: Any) -> tuple[Run, RunLedger]:
    async with served.database.write() as session:
        options = TrainingOptions()
        await create_run(session, alias=ALIAS, trigger="manual", actor="k", options=options, now=1.0, **columns)
        run = await claim_next_run(session, "aligner_1", 60.0, time.time())
    assert run is not None
    return run, RunLedger(served.database, run.id, "aligner_1", 60.0)


async def play_agent(served: Served) -> None:
    """Stop every engine that is wanted elsewhere, and start it again afterwards."""
    while True:
        async with served.database.write() as session:
            for name in (REPLICA, "assistant-2"):
                if (row := await session.get(Replica, name)) is not None:
                    row.phase = "lent" if row.swap_state == "lending" else "ready"
        await asyncio.sleep(0.02)


def borrowing(**settings: Any) -> AlignerSettings:
    return AlignerSettings(devices="borrow", **settings)


def window_around(now: datetime) -> str:
    return f"* {now - timedelta(hours=1):%H:00}-{now + timedelta(hours=2):%H:00}"


def never() -> bool:
    return False


async def test_the_second_engine_is_borrowed_and_given_back_whatever_happens(served: Served) -> None:
    await served.replica("assistant-2")
    run, ledger = await claimed(served)
    agent = asyncio.create_task(play_agent(served))

    async def train() -> None:
        async with placed(served.database, run, borrowing(), ledger, never) as placement:
            row = await served.row("assistant-2")
            assert (row.phase, row.lent_to, placement.closes_at) == ("lent", run.id, None)
            assert (await served.row()).swap_state is None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await train()
    assert (await served.row("assistant-2")).swap_state is None
    agent.cancel()


async def test_the_only_engine_is_borrowed_inside_the_window_or_with_leave_alone(served: Served) -> None:
    async with served.database.write() as session:
        await create_run(session, alias=ALIAS, trigger="manual", actor="k", options=TrainingOptions(), now=1.0)
    now = datetime.now(UTC)
    open_, shut = borrowing(maintenance_window=window_around(now)), borrowing()
    assert await barred_aliases(served.database, shut, now.timestamp()) == {ALIAS}
    assert await barred_aliases(served.database, open_, now.timestamp()) == set()
    assert await barred_aliases(served.database, AlignerSettings(), now.timestamp()) == set()
    async with served.database.write() as session:
        assert await claim_next_run(session, "aligner_1", 60.0, time.time(), {ALIAS}) is None
    run, ledger = await claimed(served)
    with pytest.raises(NoEngineFree, match="no engine of the alias can be spared just now"):
        async with placed(served.database, run, shut, ledger, never):
            pass
    agent = asyncio.create_task(play_agent(served))
    async with placed(served.database, run, open_, ledger, never) as placement:
        closes = (now + timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
        assert placement.closes_at == closes.timestamp()
    agent.cancel()
    await served.replica(REPLICA)  # it is up again
    async with served.database.write() as session:
        row = await session.get_one(Run, run.id)
        row.state, row.allow_downtime = "queued", True
        assert await claim_next_run(session, "aligner_1", 60.0, time.time(), {ALIAS}) is row
    with pytest.raises(TrainingStopped, match="while it waited for an engine"):  # it is let wait for streams to end
        async with placed(served.database, row, shut, ledger, lambda: True):
            pass
    assert (await served.row()).lent_to is None


async def test_what_is_free_bounds_the_training_process_and_too_little_is_refused(
    served: Served, tmp_path: Path
) -> None:
    run, ledger = await claimed(served)
    async with placed(served.database, run, AlignerSettings(devices="cpu"), ledger, never) as placement:
        assert placement.place.device.name == "cpu"
        assert placement.arguments == ["--memory-bytes", str(placement.place.budget_bytes)]
    with pytest.raises(AlignmentError, match="names cuda:99, and this machine has: "):
        async with placed(served.database, run, AlignerSettings(devices="cuda:99"), ledger, never):
            pass


def test_devices_are_read_from_the_driver_and_the_container(tmp_path: Path) -> None:
    gpus = read_gpus(NVIDIA_SMI)
    assert [(gpu.name, gpu.uuid, gpu.free_bytes) for gpu in gpus] == [
        ("cuda:0", "GPU-aa11", 140000 * MIB),
        ("cuda:1", "GPU-bb22", 512 * MIB),
    ]
    assert [gpu.name for gpu in _visible(gpus, "1,GPU-aa")] == ["cuda:0", "cuda:1"]
    assert _visible(gpus, "") == []
    assert find_devices({"CUDA_VISIBLE_DEVICES": ""})[-1].name == "cpu"
    for name, text in (("max", "1000000\n"), ("current", "700000\n"), ("stat", "anon 5\ninactive_file 50000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert _cgroup_limit(tmp_path) == (1_000_000, 350_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert _cgroup_limit(tmp_path) is None


async def test_a_run_on_the_only_engine_stops_when_the_window_closes_and_is_not_a_failed_attempt(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_STOP_SECONDS", 0.1)
    run, ledger = await claimed(served)
    worker = Worker(served.database, tmp_path, holder="aligner_1")
    async with trainer_process(tmp_path / "trainer.log") as trainer:
        cycle = asyncio.sleep(60)
        with pytest.raises(TrainingStopped):
            await worker._until_told(cycle, ledger, trainer, time.time() + 0.2)
    await worker._stopped(run, ledger)
    async with served.database.read() as session:
        row = await session.get_one(Run, run.id)
        told = [event.message for event in await list_run_events(session, run.id)]
    assert (row.state, row.attempts, (row.lease_expires_at or 0) <= time.time()) == ("running", 0, True)
    assert told == ["the maintenance window closed; the run goes on from its newest checkpoint with the next one"]
