"""A file of pairs is compressed in a thread of its own: no error there is lost, and it ends with the file."""

import threading
from pathlib import Path
from typing import Any

import pytest
from pyarrow.parquet import ParquetWriter, read_table

from gateway.datasets import pair_file
from gateway.datasets.collect import Chosen
from gateway.datasets.pair_file import PairFile

MESSAGE = {"role": "assistant", "content": '說 "so"'}
BODY: dict[str, Any] = {
    "id": "pair_1", "prompt": [MESSAGE], "chosen": {"message": MESSAGE}, "rejected": {"message": MESSAGE},
    "weight": 1.0, "feedback_ids": ["fb_1"],
}  # fmt: skip
CHOSEN = Chosen("train", "c", 1, 1.0, "ph", "r", "end_user", "preference", None, None, ("model", "model"), (1, 1), 2.0)


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("parquet")]


def test_rows_come_in_their_order_whatever_lies_in_which_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_file, "ROWS_AT_A_TIME", 2)
    with PairFile(tmp_path / "a.parquet") as file:
        for number in range(5):
            file.add(BODY | {"id": f"pair_{number}"}, CHOSEN)
    read = read_table(tmp_path / "a.parquet")
    assert read.column("id").to_pylist() == [f"pair_{number}" for number in range(5)]
    assert read.column("chosen").to_pylist() == [[MESSAGE]] * 5
    assert threads() == []


def write(path: Path, *, then: BaseException | None = None) -> None:
    with PairFile(path) as file:
        file.add(BODY, CHOSEN)
        if then is not None:
            raise then


def test_an_error_of_the_thread_is_raised_and_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(ParquetWriter, "write_table", fail)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path / "a.parquet")
    assert threads() == []


def test_the_thread_ends_with_a_build_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_file, "ROWS_AT_A_TIME", 1)
    with pytest.raises(LookupError):
        write(tmp_path / "a.parquet", then=LookupError())
    assert threads() == []
