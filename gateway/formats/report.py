"""What a file of rows holds: how many pairs and answers, and what is wrong with which line. Stores nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.formats.answers import demonstrations_of, is_answer
from gateway.formats.fields import BadRow
from gateway.formats.pairs import FormatName, format_of, pairs_of
from gateway.formats.table import rows_of_file

SHOWN_ERRORS = 1000
"""Bad lines told of; further ones are only counted."""


@dataclass
class FileReport:
    """Counts over the rows of a file."""

    rows: int = 0
    pairs: int = 0
    answers: int = 0
    """Single answers, as `kto` and `sft` learn from."""
    without_pair: int = 0
    """Ratings of Open WebUI's that compare nothing."""
    bad: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    """Of the first bad rows: `line`, `code` and `message`."""
    formats: dict[str, int] = field(default_factory=dict)
    """Rows by format."""

    def add_error(self, line: int, error: BadRow) -> None:
        """Count a bad row."""
        self.bad += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append({"line": line, "code": error.code, "message": error.message})

    def add_pairs(self, format_: str, pairs: int) -> None:
        """Count a good row of pairs."""
        self.pairs += pairs
        self.without_pair += pairs == 0
        self.formats[format_] = self.formats.get(format_, 0) + 1


def report_on(path: Path, *, answers: bool, format_: FormatName | None = None) -> FileReport:
    """Read the whole file. `answers`: rows with a single answer are good too. Raises `UnreadableRows`."""
    report = FileReport()
    for line, row in numbered_objects(path):
        report.rows += 1
        try:
            _add(report, row, answers, format_)
        except BadRow as error:
            report.add_error(line, error)
    return report


def numbered_objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Each row with its line; what is no JSON object is a `BadRow` that says so."""
    for number, _, value in rows_of_file(path):
        if isinstance(value, dict | BadRow):
            yield number, value
        else:
            yield number, BadRow(f"expected an object, found {type(value).__name__}")


def _add(report: FileReport, row: dict[str, Any] | BadRow, answers: bool, format_: FormatName | None) -> None:
    if isinstance(row, BadRow):
        raise row
    if answers and is_answer(row):
        report.answers += len(demonstrations_of(row))
    else:
        report.add_pairs(str(format_of(row)), len(pairs_of(row, format_)))
