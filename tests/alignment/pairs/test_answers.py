"""Single answers: every shape that has one, what a pair says of each side, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignment.errors import BadPairs
from alignment.pairs.read import read_demonstrations, read_pairs, read_thumbs

PROMPT = [{"role": "user", "content": "Name a bird."}]
GOOD = {"role": "assistant", "content": "A wren."}
SHAPES: dict[str, dict[str, Any]] = {
    "trl, text": {"prompt": "Name a bird.", "completion": "A wren.", "label": True},
    "trl, messages": {"prompt": PROMPT, "completion": [GOOD], "label": True},
    "ms-swift and OpenAI": {"messages": [*PROMPT, GOOD], "label": True},
}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_answer(tmp_path: Path, shape: str) -> None:
    row = SHAPES[shape]
    for found in (read_thumbs(write(tmp_path, row)), read_demonstrations(write(tmp_path, row))):
        (answer,) = found
        assert [(message.role, message.text) for message in answer.prompt] == [("user", "Name a bird.")]
        assert (answer.completion.text, answer.is_desirable) == ("A wren.", True)


def test_a_thumb_down_is_kept_as_one(tmp_path: Path) -> None:
    path = write(tmp_path, SHAPES["trl, text"] | {"label": False, "weight": 2})
    assert [(one.is_desirable, one.weight) for one in read_thumbs(path)] == [(False, 2.0)]
    assert [one.is_desirable for one in read_demonstrations(path)] == [False]


def test_a_pair_is_two_thumbs_or_one_demonstration(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c"})
    assert [(one.completion.text, one.is_desirable) for one in read_thumbs(path)] == [("b", True), ("c", False)]
    assert [one.completion.text for one in read_demonstrations(path)] == ["b"]


def test_an_answer_without_a_thumb_can_only_be_imitated(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "a", "completion": "b"})
    assert len(read_demonstrations(path)) == 1
    with pytest.raises(BadPairs, match="line 1: there is no thumb: give label true or false, or take method sft"):
        read_thumbs(path)


def test_answers_are_no_pairs_and_the_reader_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadPairs, match="line 1: a single answer is no pair; train on answers with method kto"):
        read_pairs(write(tmp_path, SHAPES["trl, text"]))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "completion": "b", "label": "good"}, "label must be true for a thumb up"),
        ({"prompt": "a", "completion": "b", "label": True, "score": 3}, "unknown key 'score'"),
        ({"prompt": "", "completion": "b", "label": True}, "the prompt is empty"),
        ({"messages": [GOOD], "label": True}, "the prompt is empty"),
        ({"messages": PROMPT, "label": True}, "the answer must be an assistant message, found role 'user'"),
        ({"text": "a", "label": True}, "no known shape of an answer has the keys label, text"),
    ],
)
def test_a_bad_row_is_an_error_with_line_and_reason(tmp_path: Path, row: Any, reason: str) -> None:
    with pytest.raises(BadPairs, match="line 2: ") as caught:
        read_thumbs(write(tmp_path, SHAPES["trl, text"], row))
    assert reason in caught.value.message
