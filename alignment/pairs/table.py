"""The raw rows of a file or a folder of files: JSON Lines, a JSON array, or Parquet. Knows nothing of pairs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alignment.errors import BadPairs
from alignment.pairs.fields import BadRow
from gateway.datasets.freeze import CARD_FILE, TRAIN_FILE, DatasetDamaged, read_card

SUFFIXES = (".jsonl", ".json", ".parquet")
_ROWS_AT_A_TIME = 1024
_OWN = {"pair", "cluster", "feedback_ids"}
"""Columns of a frozen data set, whose rows hold the whole pair."""


class RawRow(NamedTuple):
    """One row as it stands in its file."""

    place: str
    """Where, in words: `line 3`, or `row 3` of a table."""
    id: str
    """Names the row if it has no `id` of its own."""
    value: Any
    """What JSON says it is; a `BadRow` where it is no JSON."""


def raw_rows(path: Path) -> Iterator[RawRow]:
    """Every row in order; of a frozen data set its training part. Raises `BadPairs` if something cannot be read."""
    files = data_files(path)
    for file in files:
        for row in _rows_of(file):
            if len(files) == 1:
                yield row
            else:
                yield RawRow(f"{file.name}, {row.place}", f"{file.name}-{row.id}", row.value)


def data_files(path: Path) -> list[Path]:
    """The files that hold the rows to train on. Raises `BadPairs` for a folder without any."""
    if not path.is_dir():
        return [path]
    if (path / CARD_FILE).is_file():
        try:
            read_card(path)
        except DatasetDamaged as error:
            raise BadPairs(error.message) from error
        return [path / TRAIN_FILE]
    found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and not file.name.startswith("."))
    training = [file for file in found if "train" in file.name]
    if not found:
        raise BadPairs(f"{path} holds no {', '.join(SUFFIXES)} file; give the file of pairs, or a frozen data set")
    return training or found


def _rows_of(file: Path) -> Iterator[RawRow]:
    try:
        if file.suffix == ".parquet":
            yield from _parquet_rows(file)
        elif file.suffix == ".json" and file.read_text(encoding="utf-8").lstrip().startswith("["):
            yield from _array_rows(file)
        else:
            yield from _lines(file)
    except UnicodeDecodeError as error:
        raise BadPairs(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); convert it first") from error
    except OSError as error:
        raise BadPairs(f"{file} cannot be read: {error.strerror or error}; check the path") from error


def _lines(file: Path) -> Iterator[RawRow]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield RawRow(f"line {number}", f"line-{number}", _parsed(line))


def _array_rows(file: Path) -> Iterator[RawRow]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BadPairs(f"{file}, line {error.lineno}: not JSON: {error.msg} at column {error.colno}") from error
    for number, row in enumerate(rows, start=1):
        yield RawRow(f"row {number}", f"row-{number}", row)


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
                    value = json.loads(row["pair"]) if row.keys() >= _OWN else _without_gaps(row)
                    yield RawRow(f"row {number}", f"row-{number}", value)
    except ArrowInvalid as error:
        raise BadPairs(f"{file} is no Parquet file: {error}") from error


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return BadRow(f"not JSON: {error.msg} at column {error.colno}")


def _without_gaps(value: Any) -> Any:
    """A table has every column in every row; what is null there is absent here."""
    if isinstance(value, dict):
        return {name: _without_gaps(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_gaps(item) for item in value]
    return value
