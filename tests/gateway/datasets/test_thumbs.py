"""Ratings that are part of no pair: their own part of a data set, for training with `kto` alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow.parquet import read_table

from gateway.datasets.build import build, preview, show
from gateway.datasets.card import card_markdown
from gateway.datasets.freeze import THUMBS_FILE, TRAIN_FILE
from gateway.datasets.pair_file import read_lineage
from gateway.datasets.shingles import shingles
from gateway.datasets.signatures import signature
from gateway.datasets.votes_in import votes_in
from gateway.privacy.dataset_files import rewrite_without
from gateway.settings import DatasetSettings
from gateway.storage import ratings
from gateway.storage.datasets import settle_prompts
from gateway.storage.feedback_tables import Feedback
from gateway.storage.tables import ApiKey
from tests.gateway.datasets.test_build import SERVER, text
from tests.gateway.feedback.conftest import Desk
from tests.gateway.feedback.conftest import desk as desk

NONE_HELD_OUT = DatasetSettings(holdout_share=0.0, holdout_start_share=0.0)


async def rate(desk: Desk, number: int, up: bool, user: str = "ann", **columns: Any) -> str:
    """A prompt of its own, an answer, and a thumb on it; returns the id of the vote."""
    completion = await desk.complete(text(f"answer {number}"), prompt=text(f"prompt {number}"), **columns)
    body = {"type": "rating", "target": {"completion_id": completion}, "name": "thumbs", "value": up}
    return str((await desk.vote(body | {"rater": {"id": user}}, SERVER)).reply["id"])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in read_table(folder / THUMBS_FILE).column("pair").to_pylist()]


async def test_a_thumb_without_a_partner_is_frozen_with_its_answer_and_counted_in_the_card(
    desk: Desk, tmp_path: Path
) -> None:
    votes = [await rate(desk, number, up=number != 2) for number in range(3)]
    told = await preview(desk.database, "assistant", NONE_HELD_OUT)
    card = await build(desk.database, tmp_path, "assistant", NONE_HELD_OUT)
    assert card["thumbs"] == told["thumbs"] == {"ratings": 3, "answers": 3, "up": 2, "down": 1, "dropped": {}}
    assert (card["pairs"], card["train"]["pairs"]) == (0, 0)
    assert "Single answers with a thumb" in card_markdown(card | {"agreement": {}})
    folder = tmp_path / "datasets" / card["id"]
    assert [(row["id"], row["label"]) for row in rows_of(folder)] == list(zip(votes, [True, True, False], strict=True))
    assert rows_of(folder)[0]["messages"] == [
        {"role": "user", "content": text("prompt 0")},
        {"role": "assistant", "content": text("answer 0")},
    ]
    assert set(votes_in(folder).sides.items()) == {(vote, "thumbs") for vote in votes}
    assert (await show(desk.database, tmp_path, card["id"]))["damaged"] is None


async def test_thumbs_are_read_in_pages_as_if_all_at_once(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes = [await rate(desk, number, up=number % 2 == 0) for number in range(5)]
    for said, up in (("good", True), ("bad", False)):
        completion = await desk.complete(text(said), prompt=text("paired"))
        await desk.vote({"type": "rating", "target": {"completion_id": completion}, "name": "thumbs", "value": up})
    monkeypatch.setattr(ratings, "RATINGS_AT_A_TIME", 2)
    card = await build(desk.database, tmp_path, "assistant", NONE_HELD_OUT)
    assert card["thumbs"] == {"ratings": 5, "answers": 5, "up": 3, "down": 2, "dropped": {}}
    assert [row["id"] for row in rows_of(tmp_path / "datasets" / card["id"])] == votes


async def test_a_thumb_in_a_pair_on_a_broken_answer_or_of_another_project_is_none_of_them(
    desk: Desk, tmp_path: Path
) -> None:
    await rate(desk, 1, up=True)
    await rate(desk, 2, up=True, finish="length")
    await rate(desk, 3, up=True, status="failed")
    foreign = await rate(desk, 4, up=True)
    for said, up in (("good", True), ("bad", False)):
        completion = await desk.complete(text(said), prompt=text("paired"))
        await desk.vote({"type": "rating", "target": {"completion_id": completion}, "name": "thumbs", "value": up})
    async with desk.database.write() as session:
        (await session.get_one(Feedback, foreign)).project_id = "proj_2"
    card = await build(desk.database, tmp_path, "assistant", NONE_HELD_OUT)
    assert (card["pairs"], card["thumbs"]["ratings"], card["thumbs"]["answers"]) == (1, 1, 1)


async def test_no_thumb_is_used_that_a_key_without_training_has_part_in(desk: Desk, tmp_path: Path) -> None:
    await rate(desk, 1, up=True)
    await rate(desk, 2, up=True, key_id="key_private")
    voted = await rate(desk, 3, up=True)
    async with desk.database.write() as session:
        fields = {"secret_sha256": "x", "scopes": [], "created_at": 1.0}
        session.add(ApiKey(id="key_private", project_id="proj_1", name="private", train=False, **fields))
        (await session.get_one(Feedback, voted)).key_id = "key_private"
    card = await build(desk.database, tmp_path, "assistant", NONE_HELD_OUT)
    assert (card["thumbs"]["ratings"], card["thumbs"]["answers"]) == (1, 1)


async def test_no_thumb_is_on_a_prompt_that_resembles_one_to_measure_on(desk: Desk, tmp_path: Path) -> None:
    near = text("prompt 1") + " more"  # 12 words have 8 shingles, one more word adds one: 8 of 9 are shared
    good, bad = [{"completion_id": await desk.complete(said, prompt=near)} for said in ("Good.", "Bad.")]
    voted = await desk.vote({"type": "preference", "chosen": good, "rejected": [bad]})
    row = {"alias": "assistant", "prompt_hash": voted.reply["target"]["prompt_hash"], "side": "holdout", "number": 0}
    async with desk.database.write() as session:
        more = {"cluster": row["prompt_hash"], "bridges": False, "signature": signature(shingles(near))}
        await settle_prompts(session, [row | more])
    await rate(desk, 1, up=True)
    await rate(desk, 2, up=True)
    card = await build(desk.database, tmp_path, "assistant", NONE_HELD_OUT)
    assert card["thumbs"] == {"ratings": 2, "answers": 1, "up": 1, "down": 0, "dropped": {"held_out": 1}}


async def test_strangers_thumbs_are_held_to_the_rules_on_raters(desk: Desk, tmp_path: Path) -> None:
    for number in range(12):
        await rate(desk, number, up=True, user="stranger")
    public = NONE_HELD_OUT.model_copy(update={"profile": "public"})
    card = await build(desk.database, tmp_path, "assistant", public)
    # The first ten votes of a rater are held.
    assert card["thumbs"]["dropped"] == {"quarantine": 10}
    assert card["thumbs"]["answers"] == 2


async def test_an_erasure_takes_thumbs_out_of_a_data_set(desk: Desk, tmp_path: Path) -> None:
    mine, other = await rate(desk, 1, up=True), await rate(desk, 2, up=False)
    card = await build(desk.database, tmp_path, "assistant", NONE_HELD_OUT)
    folder = tmp_path / "datasets" / card["id"]
    new = rewrite_without(folder, [mine], tmp_path / "datasets" / "ds_new")
    assert new is not None
    assert (new["thumbs"], new["pairs"]) == ({"answers": 1}, 0)
    assert [votes for _, votes in read_lineage(tmp_path / "datasets" / "ds_new")] == [[other]]
    assert new["sha256"].keys() == {TRAIN_FILE, "holdout.parquet", THUMBS_FILE}
    assert rewrite_without(folder, [mine, other], tmp_path / "datasets" / "ds_none") is None
