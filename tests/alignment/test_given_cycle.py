"""Runs on uploaded files through the real aligner with a tiny model; runs that are paused and go on."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from alignment.errors import AlignmentError
from alignment.freezing import Rules, freeze_pairs
from alignment.ledger import RunLedger
from alignment.subject import look_up
from alignment.worker import Worker
from gateway.contracts.seal import verify_seal
from gateway.datasets.freeze import HOLDOUT_FILE, TRAIN_FILE, freeze
from gateway.datasets.pair_file import read_pairs
from gateway.sections.datasets import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.datasets import record_dataset
from gateway.storage.feedback_tables import Dataset, Run
from gateway.storage.fine_tuning import checkpoints_of
from gateway.storage.privacy_tables import Erasure, Tombstone
from gateway.storage.runs import list_run_events, request_cancel, request_pause, resume_run
from gateway.storage.webhook_tables import WebhookDelivery
from tests.alignment.test_cycle import NOW, QUICK, aligned_releases, current, eventually, fill
from tests.uploads import add_file, queue_on

STEPS = 150
"""More than are made before a wish to pause is heard."""


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    database = Database(sqlite_url)
    yield database
    await database.close()


async def an_alias(database: Database, model: Path) -> None:
    """With no votes, and no run but those of the test."""
    run = await fill(database, model, 0, {})
    async with database.write() as session:
        await request_cancel(session, await session.get_one(Run, run.id), NOW)


async def test_single_answers_are_learnt_from_and_measured_on_fixed_texts_alone(
    database: Database, store: Path, tiny_model: Path
) -> None:
    await an_alias(database, tiny_model)
    said = [[{"role": "user", "content": f"name {n}?"}, {"role": "assistant", "content": "Ann"}] for n in range(24)]
    file = await add_file(database, store, [{"messages": messages} for messages in said], answers=24)
    run = await queue_on(database, file, **QUICK, method="sft", max_steps=2)
    await Worker(database, store).serve(once=True)
    run = await current(database, run)
    assert (run.state, run.error) == ("succeeded", None)
    (release,) = await aligned_releases(database)
    assert (release.manifest["method"], release.manifest["metrics"]["holdout_pairs"]) == ("sft", 0)


async def test_a_file_that_was_deleted_fails_the_run_at_once_and_says_so(
    database: Database, store: Path, tiny_model: Path
) -> None:
    await an_alias(database, tiny_model)
    run = await queue_on(database, "file-gone", **QUICK)
    await Worker(database, store).serve(once=True)
    run = await current(database, run)
    assert (run.state, run.attempts) == ("failed", 1)
    assert run.error == "The file file-gone was deleted before it was trained on; upload it again."


async def test_a_frozen_data_set_is_trained_on_as_it_lies_and_no_other_is_made(
    database: Database, store: Path, tiny_model: Path
) -> None:
    await fill(database, tiny_model, 30, {})
    card = await freeze(database, store / "datasets" / "ds_votes", "assistant", DatasetSettings(), now=NOW)
    async with database.write() as session:
        location = "datasets/ds_votes"
        await record_dataset(session, "ds_votes", alias="assistant", location=location, card=card, now=NOW)
    run = await queue_on(database, "ds_votes", **QUICK)
    subject = await look_up(database, store, run)
    ledger = RunLedger(database, run.id, "aligner", 60.0)
    assert subject.dataset_id == "ds_votes"
    assert await freeze_pairs(database, store, subject.dataset_id, run, Rules(), ledger) == card
    async with database.write() as session:
        assert (await session.scalars(select(Dataset.id))).all() == ["ds_votes"]
        (await session.get_one(Dataset, "ds_votes")).removed_at = NOW
    with pytest.raises(AlignmentError, match="the data set ds_votes was removed"):
        await freeze_pairs(database, store, subject.dataset_id, run, Rules(), ledger)


async def test_a_data_set_made_from_one_that_somebody_was_erased_out_of_meanwhile_is_not_kept(
    database: Database, store: Path, tiny_model: Path
) -> None:
    await fill(database, tiny_model, 30, {})
    frozen = store / "datasets" / "ds_votes"
    card = await freeze(database, frozen, "assistant", DatasetSettings(), now=NOW)
    async with database.write() as session:
        location = "datasets/ds_votes"
        await record_dataset(session, "ds_votes", alias="assistant", location=location, card=card, now=NOW)
        waiting = await session.scalar(select(Run))
        assert waiting is not None
        await request_cancel(session, waiting, NOW)
        session.add(an_erasure())
        await session.flush()
        session.add(Tombstone(id="fb_1", erasure_id="erasure_1"))
    rows = [{"prompt": f"shape {n}?", "chosen": "blue", "rejected": "red"} for n in range(5)]
    run = await queue_on(database, "ds_votes", **QUICK, validation=await add_file(database, store, rows))
    await Worker(database, store).serve(once=True)
    run = await current(database, run)
    assert (run.state, run.error) == (
        "failed",
        "somebody whose votes are in the data set was erased meanwhile; train on the one replacing it",
    )
    async with database.read() as session:
        assert (await session.get_one(Dataset, run.dataset_id)).removed_at is not None
    assert [path.name for path in (store / "datasets").iterdir()] == ["ds_votes"]


def an_erasure() -> Erasure:
    """One that is under way."""
    empty: dict[str, Any] = {"rater_hashes": {}, "counts": {}, "datasets": {}, "releases": [], "runs": []}
    return Erasure(
        id="erasure_1", end_user_hash="eu", policy="keep", state="datasets", actor="k", created_at=NOW, updated_at=NOW,
        **empty,
    )  # fmt: skip


async def test_a_run_on_a_file_pauses_behind_a_checkpoint_and_goes_on_to_a_release_of_that_file(
    database: Database, store: Path, tiny_model: Path
) -> None:
    await an_alias(database, tiny_model)
    rows = [{"prompt": f"colour {n}?", "chosen": "blue", "rejected": "red" * (1 + n % 3)} for n in range(40)]
    run = await queue_on(database, await add_file(database, store, rows), **QUICK, epochs=100, max_steps=STEPS, seed=3)
    metrics = store / "runs" / run.id / "metrics.jsonl"
    worker = Worker(database, store)
    serving = asyncio.create_task(worker.serve())

    async def trained_a_little() -> bool:
        return metrics.is_file() and len(metrics.read_text().splitlines()) >= 3

    async def left(state: str) -> bool:
        return (await current(database, run)).state != state

    await eventually(trained_a_little)
    async with database.write() as session:
        request_pause(await session.get_one(Run, run.id))
    await eventually(partial(left, "running"))
    found = await current(database, run)
    assert (found.state, found.attempts, found.holder, found.pause_requested) == ("paused", 0, None, False)
    (checkpoint,) = (store / "runs" / run.id).glob("checkpoint-*")
    done = int(checkpoint.name.rpartition("-")[2])
    assert 3 <= done < STEPS
    assert not await worker.work_once()  # it waits for somebody to resume it
    async with database.write() as session:
        resume_run(await session.get_one(Run, run.id))
    await eventually(partial(left, "queued"))
    await eventually(partial(left, "running"))
    worker.stopping.set()
    await serving
    await check_steps(database, run, done)
    await check_release(database, store, run, [row["prompt"] for row in rows])


async def check_steps(database: Database, run: Run, paused_after: int) -> None:
    """Every step was made once; the gates have spoken; both ends are to be told."""
    async with database.read() as session:
        events = await list_run_events(session, run.id)
        kept = [(one.data["step"], one.data["final"]) for one in await checkpoints_of(session, run.id)]
        told = [row.type for row in await session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id))]
    assert [event.data["step"] for event in events if event.type == "metrics"] == list(range(1, STEPS + 1))
    assert (kept[0], kept[-1]) == ((STEPS, True), (paused_after, False))
    gates = [event.data for event in events if "gate" in event.data]
    assert {gate["gate"] for gate in gates} >= {"holdout_preference", "perplexity"}
    assert all(gate["pass"] == (gate["verdict"] != "block") for gate in gates)
    assert told == ["fine_tuning.job.cancelled", "fine_tuning.job.succeeded"]


async def check_release(database: Database, store: Path, run: Run, prompts: list[str]) -> None:
    """One sealed release, from a data set of its own that holds the whole file."""
    run = await current(database, run)
    (release,) = await aligned_releases(database)
    verify_seal(store / release.location, release.id)
    assert (release.id, release.manifest["dataset_id"]) == (run.release_id, run.dataset_id)
    async with database.read() as session:
        dataset = await session.get_one(Dataset, run.dataset_id)
    folder = store / dataset.location
    parts = [[pair.prompt[0].text for pair in read_pairs(folder / name)] for name in (TRAIN_FILE, HOLDOUT_FILE)]
    assert sorted(parts[0] + parts[1]) == sorted(prompts)
    assert release.manifest["metrics"]["holdout_pairs"] == len(parts[1]) > 0
