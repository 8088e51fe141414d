"""The raw rows of a file, or of a folder of files: which files, and in what order. Knows nothing of pairs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alignment.errors import BadPairs
from gateway.datasets.freeze import CARD_FILE, THUMBS_FILE, TRAIN_FILE, DatasetDamaged, read_card
from gateway.formats.table import UnreadableRows, rows_of_file

SUFFIXES = (".jsonl", ".json", ".parquet")


class NamedRow(NamedTuple):
    """One row as it stands in its file."""

    place: str
    """Where, in words: `line 3`, or `row 3` of a table."""
    id: str
    """Names the row if it has no `id` of its own."""
    value: Any
    """What JSON says it is; a `BadRow` where it is no JSON."""


def named_rows(path: Path, *, thumbs: bool = False) -> Iterator[NamedRow]:
    """Every row in order; of a frozen data set its training part. Raises `BadPairs` if something cannot be read.

    `thumbs`: of a frozen data set also the ratings that are part of no pair.
    """
    files = data_files(path) + (_thumbs_beside(path) if thumbs else [])
    for file in files:
        try:
            for number, kind, value in rows_of_file(file):
                row = NamedRow(f"{kind} {number}", f"{kind}-{number}", value)
                several = NamedRow(f"{file.name}, {row.place}", f"{file.name}-{row.id}", value)
                yield row if len(files) == 1 else several
        except UnreadableRows as error:
            raise BadPairs(error.message) from error


def _thumbs_beside(path: Path) -> list[Path]:
    """Of a frozen data set, or of its training part."""
    folder = path if path.is_dir() else path.parent if path.name == TRAIN_FILE else None
    if folder is None or not (folder / CARD_FILE).is_file():
        return []
    return [file for file in [folder / THUMBS_FILE] if file.is_file()]


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
