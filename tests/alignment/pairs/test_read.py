"""Every accepted shape says the same; anything else is an error with its line and the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignment.errors import BadPairs
from alignment.pairs.read import read_pairs

PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a bird."}]
GOOD, BAD = {"role": "assistant", "content": "A wren."}, {"role": "assistant", "content": "Birds are many."}

SHAPES: dict[str, dict[str, Any]] = {
    "openai": {"input": {"messages": PROMPT, "tools": []}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "trl, messages": {"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD]},
    "trl, no prompt of its own": {"chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]},
    "trl, prompt repeated": {"prompt": PROMPT, "chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]},
    "ms-swift, response": {"messages": [*PROMPT, GOOD], "rejected_response": "Birds are many."},
    "ms-swift, messages": {"messages": [*PROMPT, GOOD], "rejected_messages": [*PROMPT, BAD]},
    "plain": {"id": "p1", "source": "own", "messages": PROMPT, "chosen": "A wren.", "rejected": "Birds are many."},
    "feedback": {
        "id": "pair_1",
        "project_id": "proj_1",
        "prompt": PROMPT,
        "prompt_hash": "ph_1",
        "chosen": {"message": GOOD, "origin": "human"},
        "rejected": {"message": BAD, "origin": "model", "completion_id": "chatcmpl-1", "index": 0},
        "weight": 0.5,
        "rater": {"id_hash": "r_1", "kind": "annotator"},
        "feedback_ids": ["fb_1"],
        "judged_at": "2026-11-23T12:00:00Z",
    },
}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_pair(tmp_path: Path, shape: str) -> None:
    (pair,) = read_pairs(write(tmp_path, SHAPES[shape]))
    assert [(message.role, message.content) for message in pair.prompt] == [
        ("system", "Be brief."),
        ("user", "Name a bird."),
    ]
    assert (pair.chosen.text, pair.rejected.text) == ("A wren.", "Birds are many.")
    assert pair.weight == (0.5 if shape == "feedback" else 1.0)


def test_a_prompt_of_plain_text_is_one_user_message(tmp_path: Path) -> None:
    (pair,) = read_pairs(write(tmp_path, {"prompt": "Name a bird.", "chosen": "A wren.", "rejected": "Many."}))
    assert [(message.role, message.text) for message in pair.prompt] == [("user", "Name a bird.")]


def test_rows_without_an_id_are_named_by_their_line(tmp_path: Path) -> None:
    row = {"prompt": "Name a bird.", "chosen": "A wren.", "rejected": "Many."}
    assert [pair.id for pair in read_pairs(write(tmp_path, row, "", row))] == ["line-1", "line-3"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"prompt": "a", ', "not JSON"),
        ([1, 2], "expected an object, found list"),
        ({"prompt": "a", "chosen": "b"}, "no known shape"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "identical"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "wieght": 2}, "unknown key 'wieght'"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "weight": 0}, "weight must be a number above 0"),
        ({"prompt": " ", "chosen": "b", "rejected": "c"}, "the prompt is empty"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "rejected must be a list"),
        ({"prompt": PROMPT, "chosen": [PROMPT[1]], "rejected": [BAD]}, "chosen must be an assistant message"),
        ({"prompt": PROMPT, "chosen": [PROMPT[1], GOOD], "rejected": [BAD]}, "do not begin with the prompt"),
        ({"messages": [{"role": "usr", "content": "a"}], "chosen": "b", "rejected": "c"}, "messages: role"),
        ({**SHAPES["openai"], "preferred_output": [GOOD, GOOD]}, "exactly one message, found 2"),
        ({**SHAPES["feedback"], "judged_at": "2026-11-23T12:00:00"}, "judged_at"),
    ],
)
def test_a_bad_row_is_an_error_with_line_and_reason(tmp_path: Path, row: Any, reason: str) -> None:
    with pytest.raises(BadPairs, match="line 2: ") as caught:
        read_pairs(write(tmp_path, SHAPES["plain"], row))
    assert reason in caught.value.message


def test_the_same_id_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadPairs, match="line 2: the id 'p1' occurred before"):
        read_pairs(write(tmp_path, SHAPES["plain"], SHAPES["plain"]))


def test_many_bad_rows_are_counted_and_the_first_shown(tmp_path: Path) -> None:
    with pytest.raises(BadPairs, match="has 7 bad rows") as caught:
        read_pairs(write(tmp_path, *["nonsense"] * 7))
    assert "line 5" in caught.value.message
    assert "line 6" not in caught.value.message
    assert "and 2 more" in caught.value.message


def test_an_empty_or_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(BadPairs, match="holds no pair"):
        read_pairs(write(tmp_path, ""))
    with pytest.raises(BadPairs, match="check the path"):
        read_pairs(tmp_path / "absent.jsonl")
