"""Files and data sets that a run was given, frozen into a data set of its own, on each kind of database."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.contracts.message import Message
from gateway.contracts.prompt import prompt_hash
from gateway.datasets.freeze import HOLDOUT_FILE, TRAIN_FILE
from gateway.datasets.given import freeze_given
from gateway.datasets.pair_file import read_lineage, read_pairs
from gateway.datasets.shingles import shingles
from gateway.datasets.signatures import signature
from gateway.datasets.sources import UnusableSource
from gateway.formats.answers import demonstrations_of
from gateway.formats.report import numbered_objects
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.datasets import record_dataset
from gateway.storage.feedback_tables import PairRow, PromptSide, Run
from gateway.storage.tables import Alias, Project
from tests.uploads import AT as NOW
from tests.uploads import add_file, queue_on

LONG = "please tell me in one short sentence which colour the sky has at noon in a town near the sea called {}"
"""With another last word it is a near-duplicate: of 19 runs of five words, 17 are shared."""


@pytest.fixture
async def store(database: Database, tmp_path: Path) -> Path:
    fields: dict[str, Any] = {"base_release_id": "rel_1", "serving_release_id": "rel_1", "created_at": 0.0}
    async with database.write() as session:
        session.add(Project(id="proj_1", name="one", created_at=0.0))
        await session.flush()
        session.add(Alias(name="assistant", project_id="proj_1", updated_at=0.0, **fields))
    return tmp_path / "store"


def pair(prompt: str, chosen: str = "blue", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": "red", **more}


async def frozen(database: Database, store: Path, run: Run, name: str = "ds_own") -> tuple[Path, dict[str, Any]]:
    folder = store / "datasets" / name
    return folder, await freeze_given(database, store, folder, run, DatasetSettings(), now=NOW)


def prompts(file: Path) -> list[str]:
    return [pair.prompt[0].text for pair in read_pairs(file)]


async def count_rows(database: Database) -> tuple[int, int]:
    async with database.read() as session:
        counts = [await session.scalar(select(func.count()).select_from(table)) for table in (PairRow, PromptSide)]
    return counts[0] or 0, counts[1] or 0


async def test_a_file_is_divided_by_cluster_and_adds_nothing_to_the_votes(database: Database, store: Path) -> None:
    rows = [pair(LONG.format(f"number {n}")) for n in range(30)] + [
        pair(f"quite another thing, {n}") for n in range(60)
    ]
    run = await queue_on(database, await add_file(database, store, rows))
    folder, card = await frozen(database, store, run)
    train, held = prompts(folder / TRAIN_FILE), prompts(folder / HOLDOUT_FILE)
    assert len(train) + len(held) == card["pairs"] == 90
    assert len(held) == card["holdout"]["pairs"] > 0
    alike = [sum("the sky" in prompt for prompt in part) for part in (train, held)]
    assert sorted(alike) == [0, 30]  # near-duplicates lie on one side, all of them
    assert card["made_from"] == {"training_file": run.training_file, "validation_file": None}
    assert await count_rows(database) == (0, 0)
    again, _ = await frozen(database, store, run, "ds_again")
    assert prompts(again / HOLDOUT_FILE) == held


async def test_a_near_duplicate_of_what_the_alias_is_measured_on_is_held_out(database: Database, store: Path) -> None:
    text = LONG.format("Ulm")
    hashed = prompt_hash((Message(role="user", content=text),))
    async with database.write() as session:
        for number, (name, side) in enumerate((("Ulm", "holdout"), ("other", "train"))):
            session.add(
                PromptSide(
                    alias="assistant",
                    prompt_hash=hashed if name == "Ulm" else "ph_other",
                    side=side,
                    number=number,
                    cluster=hashed if name == "Ulm" else "ph_other",
                    bridges=False,
                    signature=signature(shingles(text if name == "Ulm" else "a prompt that nobody repeats")),
                )
            )
    run = await queue_on(database, await add_file(database, store, [pair(text), pair("quite another thing")]))
    folder, _ = await frozen(database, store, run)
    assert text in prompts(folder / HOLDOUT_FILE)


async def test_what_resembles_the_validation_file_is_not_trained_on(database: Database, store: Path) -> None:
    training = [
        pair("one"),
        pair("two"),
        pair("two"),
        pair("two", "green"),
        pair(LONG.format("Bonn")),
        pair("three"),
    ]
    validation = [pair("one"), pair(LONG.format("Ulm"))]
    files = [await add_file(database, store, rows) for rows in (training, validation)]
    folder, card = await frozen(database, store, await queue_on(database, files[0], files[1]))
    assert prompts(folder / TRAIN_FILE) == ["two", "two", "three"]
    assert prompts(folder / HOLDOUT_FILE) == ["one", LONG.format("Ulm")]
    assert (card["counts"]["candidates"], card["pairs"]) == (8, 5)
    assert card["counts"]["dropped"] == {"near_validation": 2, "repeated": 1}


async def test_a_pair_keeps_its_source_licence_and_weight_and_names_no_vote(database: Database, store: Path) -> None:
    file = await add_file(database, store, [pair("one", source="crm", licence="internal", weight=2.0)])
    other = await add_file(database, store, [pair("two")])
    folder, card = await frozen(database, store, await queue_on(database, file, other))
    (kept,) = read_pairs(folder / TRAIN_FILE)
    assert (kept.id, kept.source, kept.licence, kept.weight) == (f"{file}:1", "crm", "internal", 2.0)
    assert {tuple(votes) for _, votes in read_lineage(folder)} == {()}
    assert card["sources"] == [
        {"source": "crm", "licence": "internal", "pairs": 1},
        {"source": None, "licence": None, "pairs": 1},
    ]


async def test_single_answers_are_frozen_as_answers_those_with_a_thumb_down_left_out(
    database: Database, store: Path
) -> None:
    rows = [{"prompt": f"name {n}?", "completion": "Ann", "label": n != 1} for n in range(3)]
    training = await add_file(database, store, rows, answers=3)
    validation = await add_file(database, store, [pair("other")])
    run = await queue_on(database, training, validation, method="sft")
    folder, card = await frozen(database, store, run)
    assert (card["rows"], card["train"]["pairs"], card["holdout"]["pairs"]) == ("answers", 2, 1)
    found = [
        (one.prompt[0].text, one.completion.text)
        for name in (TRAIN_FILE, HOLDOUT_FILE)
        for _, row in numbered_objects(folder / name)
        if isinstance(row, dict)
        for one in demonstrations_of(row)
    ]
    assert found == [("name 0?", "Ann"), ("name 2?", "Ann"), ("other", "blue")]
    with pytest.raises(UnusableSource, match="only the method `supervised`"):
        await frozen(database, store, await queue_on(database, training))


async def test_a_data_set_trains_with_its_train_part_and_measures_with_its_holdout(
    database: Database, store: Path
) -> None:
    sides = [await add_file(database, store, rows) for rows in ([pair("one")], [pair("two")])]
    _, card = await frozen(database, store, await queue_on(database, *sides), "ds_first")
    async with database.write() as session:
        location = "datasets/ds_first"
        await record_dataset(session, "ds_first", alias="assistant", location=location, card=card, now=NOW)
    extra = await add_file(database, store, [pair("three")])
    folder, _ = await frozen(database, store, await queue_on(database, "ds_first", extra), "ds_a")
    assert (prompts(folder / TRAIN_FILE), prompts(folder / HOLDOUT_FILE)) == (["one"], ["three"])
    folder, _ = await frozen(database, store, await queue_on(database, extra, "ds_first"), "ds_b")
    assert (prompts(folder / TRAIN_FILE), prompts(folder / HOLDOUT_FILE)) == (["three"], ["two"])


async def test_a_source_that_is_gone_is_told(database: Database, store: Path) -> None:
    with pytest.raises(UnusableSource, match="upload it again"):
        await frozen(database, store, await queue_on(database, "file-gone"))
    with pytest.raises(UnusableSource, match="train on another one"):
        await frozen(database, store, await queue_on(database, "ds_gone", "file-gone"))
