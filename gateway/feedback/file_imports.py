"""Imports a file of pairs of any size: first every row is read, then a thousand at a time is stored.

All or nothing: with a bad row nothing is stored, unless bad rows are to be skipped. A thousand pairs are one
transaction, so that votes go on meanwhile; after a crash the same import goes on where it ended, because a pair that is
there already changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.feedback.import_store import ImportStore, ImportTerms, StoredImports
from gateway.feedback.imports import Imported, InvalidPairs, RowError, imported_of
from gateway.formats.fields import BadRow
from gateway.formats.pairs import FormatName
from gateway.formats.report import SHOWN_ERRORS, numbered_objects

PAIRS_AT_A_TIME = 1000
T = TypeVar("T")
Operation = Callable[[AsyncSession], Awaitable[StoredImports]]
Commit = Callable[[Operation], Awaitable[StoredImports]]
"""Runs an operation in a transaction of its own."""
Progress = Callable[[str, int, int | None], None]
"""Told of the stage (`read` or `store`), how many rows are done, and of how many, if that is known."""


@dataclass
class FileImport:
    """What became of a file."""

    rows: int = 0
    pairs: int = 0
    new: int = 0
    revised: int = 0
    """Were there, but had been taken back or said something else of themselves."""
    known: int = 0
    """Were there already."""
    without_pair: int = 0
    """Ratings of Open WebUI's that compare nothing."""
    skipped: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    """Of the first skipped rows: `line`, `code` and `message`."""

    @property
    def as_json(self) -> dict[str, Any]:
        """As programs see it."""
        return asdict(self)


@dataclass(frozen=True)
class FileToImport:
    """A file, and how to read it."""

    path: Path
    format: FormatName | None
    skip_errors: bool


async def import_file(
    file: FileToImport, terms: ImportTerms, store: ImportStore, commit: Commit, progress: Progress
) -> FileImport:
    """Import a file. Raises `InvalidPairs` at bad rows that are not to be skipped, or `UnreadableRows`."""
    result = await asyncio.to_thread(_check, file, progress)
    pairs = _pairs(file)
    progress("store", 0, result.pairs)
    done = 0
    while chunk := await asyncio.to_thread(_next, pairs):

        async def operation(session: AsyncSession, chunk: list[Imported] = chunk) -> StoredImports:
            return await store.store(session, terms, chunk)

        stored = await commit(operation)
        result.new, result.revised = result.new + stored.new, result.revised + stored.revised
        done += len(chunk)
        progress("store", done, result.pairs)
    result.known = result.pairs - result.new - result.revised
    return result


def _check(file: FileToImport, progress: Progress) -> FileImport:
    result = FileImport()
    errors: list[RowError] = []
    for line, row in numbered_objects(file.path):
        result.rows += 1
        try:
            found = len(imported_of(row, file.format))
            result.pairs, result.without_pair = result.pairs + found, result.without_pair + (found == 0)
        except BadRow as error:
            result.skipped += 1
            if len(errors) < SHOWN_ERRORS:
                errors.append(RowError(line, error.code, error.message))
        if result.rows % PAIRS_AT_A_TIME == 0:
            progress("read", result.rows, None)
    if errors and not file.skip_errors:
        raise InvalidPairs(errors, result.rows, result.skipped)
    result.errors = [error.as_json for error in errors]
    return result


def _pairs(file: FileToImport) -> Iterator[Imported]:
    for _, row in numbered_objects(file.path):
        try:
            yield from imported_of(row, file.format)
        except BadRow:
            continue  # counted and told of when the file was checked


def _next(pairs: Iterator[T]) -> list[T]:
    return list(islice(pairs, PAIRS_AT_A_TIME))
