"""Where rows come from: JSON Lines, a JSON array, Parquet, folders, frozen data sets, and a hub's cache."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from alignment.errors import BadPairs
from alignment.pairs.read import read_pairs
from alignment.pairs.sources import holdout_of, resolve_dataset
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.contracts.seal import file_sha256
from gateway.datasets.bodies import body_of, texts_of
from gateway.datasets.collect import chosen_of
from gateway.datasets.freeze import CARD_FILE, HOLDOUT_FILE, TRAIN_FILE
from gateway.datasets.pair_file import PairFile
from gateway.datasets.plan import Lying

ROWS = [
    {"prompt": [{"role": "user", "content": "Name a bird."}], "chosen": "A wren.", "rejected": "Many."},
    {"prompt": [{"role": "user", "content": "再说一个。"}], "chosen": "鹪鹩。", "rejected": "没有。", "weight": 0.5},
]


def texts(path: Path) -> list[tuple[str, str, float]]:
    return [(pair.prompt[0].text, pair.chosen.text, pair.weight) for pair in read_pairs(path)]


EXPECTED = [("Name a bird.", "A wren.", 1.0), ("再说一个。", "鹪鹩。", 0.5)]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def as_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_parquet_and_json_arrays_hold_the_same_rows_as_json_lines(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    assert texts(jsonl(tmp_path / "rows.jsonl", ROWS)) == EXPECTED
    assert texts(tmp_path / "rows.json") == EXPECTED
    assert texts(as_parquet(tmp_path / "rows.parquet", [{"weight": None} | row for row in ROWS])) == EXPECTED


def test_a_bad_row_of_a_table_is_named_by_its_number(tmp_path: Path) -> None:
    bad = [ROWS[0] | {"weight": 1.0}, ROWS[1] | {"weight": -1.0}]
    with pytest.raises(BadPairs, match="row 2: weight must be a number above 0"):
        read_pairs(as_parquet(tmp_path / "rows.parquet", bad))


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("nonsense")
    with pytest.raises(BadPairs, match=r"rows\.parquet is no Parquet file"):
        read_pairs(tmp_path / "rows.parquet")


def test_a_folder_gives_its_training_files_or_all_and_names_the_bad_one(tmp_path: Path) -> None:
    jsonl(tmp_path / "set" / "train-1.jsonl", ROWS[:1])
    as_parquet(tmp_path / "set" / "train-2.parquet", ROWS[1:])
    jsonl(tmp_path / "set" / "test.jsonl", [{"bad": "row"}])
    assert texts(tmp_path / "set") == EXPECTED
    jsonl(tmp_path / "set" / "train-3.jsonl", [{"bad": "row"}])
    with pytest.raises(BadPairs, match=r"train-3\.jsonl, line 1: no known shape"):
        read_pairs(tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadPairs, match=r"holds no \.jsonl, \.json, \.parquet file"):
        read_pairs(tmp_path / "empty")


def feedback_pair(number: int) -> FeedbackPair:
    return FeedbackPair(
        id=f"pair_{number}",
        project_id="proj_1",
        prompt=(Message(role="user", content=f"question {number}"),),
        prompt_hash=f"ph_{number}",
        chosen=Side(message=Message(role="assistant", content="good"), origin="human"),
        rejected=Side(message=Message(role="assistant", content="bad"), origin="human"),
        weight=0.5,
        rater=Rater(id_hash="r_1", kind="annotator"),
        feedback_ids=("fb_1",),
        judged_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


def test_a_frozen_data_set_gives_its_training_part_and_names_its_holdout(tmp_path: Path) -> None:
    folder = tmp_path / "ds_1"
    folder.mkdir()
    for name, numbers in ((TRAIN_FILE, (1, 2)), (HOLDOUT_FILE, (3,))):
        with PairFile(folder / name) as file:
            for pair in map(feedback_pair, numbers):
                body = body_of(pair)
                file.add(
                    body, chosen_of(body, texts_of(body), Lying("train", pair.prompt_hash, bridges=False), raters=1)
                )
    card = {"sha256": {name: file_sha256(folder / name) for name in (TRAIN_FILE, HOLDOUT_FILE)}}
    (folder / CARD_FILE).write_text(json.dumps(card))
    assert [pair.id for pair in read_pairs(folder)] == ["pair_1", "pair_2"]
    holdout = holdout_of(folder)
    assert holdout is not None
    assert [pair.id for pair in read_pairs(holdout)] == ["pair_3"]
    with (folder / TRAIN_FILE).open("ab") as damaged:
        damaged.write(b"PAR1")
    with pytest.raises(BadPairs, match="is not what was frozen"):
        read_pairs(folder)


def test_an_id_of_the_hub_is_found_in_its_cache_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "0" * 40
    cached = tmp_path / "datasets--owner--pairs"
    jsonl(cached / "snapshots" / revision / "data" / "train.jsonl", ROWS)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert texts(resolve_dataset("owner/pairs")) == EXPECTED
    with pytest.raises(BadPairs, match="owner/others is not on this machine and Hugging Face cannot be reached"):
        resolve_dataset("owner/others")


@pytest.mark.parametrize("name", ["nowhere.jsonl", "some/where.jsonl", "ds_01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_a_name_that_is_nothing_says_what_may_be_given(name: str) -> None:
    with pytest.raises(BadPairs, match=r"there is no file .* give a JSON Lines or Parquet file"):
        resolve_dataset(name)
