"""What a model is calibrated with is text, whichever of the usual shapes it comes in."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignment.errors import BadPairs
from alignment.export.calibration import calibration_ids, read_texts
from alignment.gate.perplexity import perplexity_texts
from alignment.models import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_texts_chats_and_pairs_are_read(tmp_path: Path, tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    rows = write(
        tmp_path / "rows.jsonl",
        {"text": "plain"},
        {"messages": chat},
        {"prompt": "hi", "chosen": "ho", "rejected": "no"},
        {"messages": chat, "rejected_response": "no"},
    )
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\n"
    assert read_texts(rows, tokenizer) == ["plain", rendered, rendered, rendered]


@pytest.mark.parametrize(
    ("row", "message"),
    [({"story": "x"}, "line 2: no known shape"), (["x"], "line 2: expected an object, found list")],
)
def test_a_row_without_text_is_named(tmp_path: Path, tokenizer: Any, row: Any, message: str) -> None:
    with pytest.raises(BadPairs, match=message):
        read_texts(write(tmp_path / "rows.jsonl", {"text": "good"}, row), tokenizer)


def test_an_empty_or_absent_file_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(BadPairs, match="holds no text to calibrate with"):
        read_texts(write(tmp_path / "rows.jsonl"), tokenizer)
    with pytest.raises(BadPairs, match="cannot be read"):
        read_texts(tmp_path / "absent.jsonl", tokenizer)


def test_rows_are_cut_to_512_tokens_and_256_rows(tmp_path: Path, tokenizer: Any) -> None:
    ids = calibration_ids(tokenizer, write(tmp_path / "rows.jsonl", *({"text": "ab" * 400} for _ in range(300))))
    assert len(ids) == 256
    assert {len(row) for row in ids} == {512}


def test_our_own_texts_are_not_those_that_perplexity_is_measured_on(tokenizer: Any) -> None:
    ids = calibration_ids(tokenizer, None)
    assert len(ids) == 24
    measured = " ".join(perplexity_texts())
    assert not any(tokenizer.decode(list(row[:60])) in measured for row in ids)
