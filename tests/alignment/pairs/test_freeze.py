"""A frozen data set says what is in it, and notices when it is no longer what was frozen."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from alignment.errors import BadPairs
from alignment.pairs.freeze import freeze, read_card
from alignment.pairs.read import read_pairs
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


def feedback_pair(number: int, rater: str = "r_1") -> FeedbackPair:
    return FeedbackPair(
        id=f"pair_{number}",
        project_id="proj_1",
        prompt=(Message(role="user", content=f"question {number // 2}"),),
        prompt_hash=f"ph_{number // 2}",
        chosen=Side(message=Message(role="assistant", content="four"), origin="human"),
        rejected=Side(message=Message(role="assistant", content="six long words, and so on"), origin="model"),
        weight=0.5,
        rater=Rater(id_hash=rater, kind="annotator"),
        feedback_ids=("fb_1",),
        judged_at=datetime(2026, 11, 1 + number, tzinfo=UTC),
    )


def test_the_card_counts_what_was_frozen(tmp_path: Path) -> None:
    train = [feedback_pair(0), feedback_pair(1), feedback_pair(2, "r_2")]
    card = freeze(tmp_path / "ds_1", "assistant", train, [feedback_pair(4)], AT)
    assert (card["id"], card["alias"], card["pairs"]) == ("ds_1", "assistant", 4)
    assert card["train"] == {
        "pairs": 3,
        "prompts": 2,
        "raters": 2,
        "rater_kinds": {"annotator": 3},
        "chosen_origins": {"human": 3},
        "rejected_origins": {"model": 3},
        "weight_sum": 1.5,
        "median_characters": {"chosen": 4, "rejected": 25},
        "judged": ["2026-11-01T00:00:00+00:00", "2026-11-03T00:00:00+00:00"],
    }
    assert card["holdout"]["pairs"] == 1
    assert read_card(tmp_path / "ds_1") == card


def test_what_was_frozen_is_read_back_by_the_trainer(tmp_path: Path) -> None:
    freeze(tmp_path / "ds_1", "assistant", [feedback_pair(0), feedback_pair(1)], [], AT)
    pairs = read_pairs(tmp_path / "ds_1" / "train.jsonl")
    assert [(pair.id, pair.chosen.text, pair.weight) for pair in pairs] == [
        ("pair_0", "four", 0.5),
        ("pair_1", "four", 0.5),
    ]


def test_freezing_again_replaces_what_an_earlier_attempt_left(tmp_path: Path) -> None:
    freeze(tmp_path / "ds_1", "assistant", [feedback_pair(0)], [], AT)
    card = freeze(tmp_path / "ds_1", "assistant", [feedback_pair(0), feedback_pair(1)], [], AT)
    assert read_card(tmp_path / "ds_1") == card
    assert [path.name for path in tmp_path.iterdir()] == ["ds_1"]


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    freeze(tmp_path / "ds_1", "assistant", [feedback_pair(0)], [], AT)
    (tmp_path / "ds_1" / "holdout.jsonl").write_text("{}\n")
    with pytest.raises(BadPairs, match=r"holdout.jsonl is not what was frozen"):
        read_card(tmp_path / "ds_1")


def test_a_missing_data_set_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadPairs, match="restore it, or start a new run"):
        read_card(tmp_path / "ds_1")
