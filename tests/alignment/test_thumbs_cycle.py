"""Ratings alone, from the vote to the release: a data set of thumbs, trained on with `kto`."""

from pathlib import Path

from alignment.pairs.read import read_thumbs
from alignment.worker import Worker
from gateway.datasets.freeze import TRAIN_FILE
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import request_cancel
from tests.alignment.test_cycle import LENIENT, NOW, aligned_releases, current, fill, queue
from tests.alignment.test_cycle import database as database
from tests.gateway.feedback.conftest import Desk

THUMBS = 40
"""Three in ten prompts are held out at first, and a run needs twenty rows."""


async def rate_many(database: Database) -> None:
    desk = Desk(database)
    for number in range(THUMBS):
        said = f"{'blue' if number % 2 else 'I would rather not say'} {number}"
        completion = await desk.complete(said, prompt=f"What colour is item {number}?")
        target = {"completion_id": completion}
        await desk.vote({"type": "rating", "target": target, "name": "thumbs", "value": bool(number % 2)})


async def test_ratings_alone_train_a_release_with_kto(database: Database, store: Path, tiny_model: Path) -> None:
    waiting = await fill(database, tiny_model, 0, {})
    async with database.write() as session:
        await request_cancel(session, await session.get_one(Run, waiting.id), NOW)
    await rate_many(database)
    run = await queue(database, {"method": "kto", "max_steps": 2})
    await Worker(database, store, rules=LENIENT).serve(once=True)
    run = await current(database, run)
    assert (run.state, run.error) == ("succeeded", None)
    (release,) = await aligned_releases(database)
    assert (release.manifest["method"], release.manifest["dataset_id"]) == ("kto", run.dataset_id)
    folder = store / "datasets" / str(run.dataset_id)
    found = read_thumbs(folder)
    assert read_thumbs(folder / TRAIN_FILE) == found
    assert 20 <= len(found) <= THUMBS
    for answer in found:
        assert answer.is_desirable is answer.completion.text.startswith("blue")


async def test_pairs_do_not_learn_from_ratings(database: Database, store: Path, tiny_model: Path) -> None:
    waiting = await fill(database, tiny_model, 0, {})
    async with database.write() as session:
        await request_cancel(session, await session.get_one(Run, waiting.id), NOW)
    await rate_many(database)
    run = await queue(database, {"method": "orpo", "max_steps": 2})
    await Worker(database, store, rules=LENIENT).serve(once=True)
    run = await current(database, run)
    assert run.state == "failed"
    assert "assistant has 0 pairs to use" in str(run.error)
