"""The raw rows of a file: JSON Lines, a JSON array, or Parquet, told apart by what they hold."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gateway.errors import InvalidRequest
from gateway.formats.fields import BadRow

NOT_JSON = "not_json"
_ROWS_AT_A_TIME = 1024
_FROZEN = {"pair", "cluster", "feedback_ids"}
"""Columns of a frozen data set, whose rows hold the whole pair beside what other trainers read."""
_PARQUET_MARK = b"PAR1"
_PEEK_BYTES = 4096


class UnreadableRows(InvalidRequest):
    """A file of which no row can be read; the text says why."""

    code = "unreadable_file"


class RawRow(NamedTuple):
    """One row as it stands in its file."""

    number: int
    """Counts from 1: of lines, blank ones included, or of rows."""
    kind: str
    """`line` or `row`."""
    value: Any
    """What JSON says it is; a `BadRow` where it is no JSON."""


def rows_of_file(file: Path) -> Iterator[RawRow]:
    """Every row in order. Raises `UnreadableRows` where the file as a whole cannot be read, even after some rows."""
    try:
        with file.open("rb") as opened:
            beginning = opened.read(_PEEK_BYTES)
        if beginning.startswith(_PARQUET_MARK):
            yield from _parquet_rows(file)
        elif beginning.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") and file.suffix != ".jsonl":
            yield from _array_rows(file)
        elif file.suffix == ".parquet":
            raise UnreadableRows(f"{file.name} is no Parquet file")
        else:
            yield from _lines(file)
    except UnicodeDecodeError as error:
        raise UnreadableRows(
            f"{file.name} is not UTF-8 text ({error.reason} at byte {error.start}); convert it first"
        ) from error
    except OSError as error:
        raise UnreadableRows(f"{file} cannot be read: {error.strerror or error}; check the path") from error


def _lines(file: Path) -> Iterator[RawRow]:
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield RawRow(number, "line", _parsed(line))


def _array_rows(file: Path) -> Iterator[RawRow]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UnreadableRows(
            f"{file.name}, line {error.lineno}: not JSON: {error.msg} at column {error.colno}"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield RawRow(number, "row", row)


def _parquet_rows(file: Path) -> Iterator[RawRow]:
    # Imported late: it is large, and most files are text.
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches(_ROWS_AT_A_TIME):
                for row in batch.to_pylist():
                    number += 1
                    value = json.loads(row["pair"]) if row.keys() >= _FROZEN else _without_gaps(row)
                    yield RawRow(number, "row", value)
    except ArrowInvalid as error:
        raise UnreadableRows(f"{file.name} is no Parquet file: {error}") from error


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return BadRow(f"not JSON: {error.msg} at column {error.colno}", NOT_JSON)


def _without_gaps(value: Any) -> Any:
    """A table has every column in every row; what is null there is absent here."""
    if isinstance(value, dict):
        return {name: _without_gaps(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_gaps(item) for item in value]
    return value
