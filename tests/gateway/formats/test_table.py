"""Rows are found in JSON Lines, JSON arrays and Parquet, whatever the file is called."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from gateway.formats.fields import BadRow
from gateway.formats.table import UnreadableRows, rows_of_file

ROWS: list[dict[str, Any]] = [{"prompt": "问", "weight": 1.0}, {"prompt": "b"}]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_lines_are_counted_with_the_blank_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "file-1", '\ufeff{"a": "\u2028问"}\n\n{"b": 2}\r\n')
    assert list(rows_of_file(path)) == [(1, "line", {"a": "\u2028问"}), (3, "line", {"b": 2})]


def test_an_array_is_known_by_its_bracket(tmp_path: Path) -> None:
    path = write(tmp_path / "file-1", " \n" + json.dumps(ROWS, ensure_ascii=False))
    assert list(rows_of_file(path)) == [(1, "row", ROWS[0]), (2, "row", ROWS[1])]


def test_parquet_is_known_by_its_mark_and_null_is_absent(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "file-1")
    assert list(rows_of_file(tmp_path / "file-1")) == [(1, "row", ROWS[0]), (2, "row", ROWS[1])]


def test_a_line_that_is_no_json_is_a_bad_row_among_good_ones(tmp_path: Path) -> None:
    first, second = rows_of_file(write(tmp_path / "a", '{"a": 1}\n{"a": \n'))
    assert first.value == {"a": 1}
    assert isinstance(second.value, BadRow)
    assert second.value.code == "not_json"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"a": 1},', "line 1: not JSON"),
        ('{"a": "é"}'.encode("latin-1"), "not UTF-8"),
        (b"PAR1 and no more", "no Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: str | bytes, reason: str) -> None:
    with pytest.raises(UnreadableRows, match=reason):
        list(rows_of_file(write(tmp_path / "a", content)))
    with pytest.raises(UnreadableRows, match="check the path"):
        list(rows_of_file(tmp_path / "absent"))
