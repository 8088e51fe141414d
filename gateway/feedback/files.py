"""Keeps uploaded files in the store: written whole or not at all, read through once to say what they hold."""

import hashlib
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gateway.formats.report import FileReport, report_on
from gateway.formats.table import UnreadableRows

FOLDER = Path("files")
"""In the store."""
SHOWN_ERRORS = 5
KEPT_ERRORS = 100
"""Bad rows that the record of a file tells of."""


@dataclass(frozen=True)
class KeptFile:
    """A file in the store, and what it holds."""

    location: Path
    """Relative to the store."""
    bytes: int
    sha256: str
    status: str
    status_details: str | None
    counts: dict[str, Any]


def keep_file(store: Path, file_id: str, source: BinaryIO) -> KeptFile:
    """Copy a file into the store, durably, and read it through. Raises `OSError`, and then leaves nothing behind."""
    location = FOLDER / file_id
    path = store / location
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{file_id}.part")
    try:
        with unfinished.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
            size = target.tell()
        with unfinished.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    status, details, counts = judged(path)
    return KeptFile(location, size, digest, status, details, counts)


def judged(path: Path) -> tuple[str, str | None, dict[str, Any]]:
    """Status, what is wrong, and counts: a file is `processed` if every row of it is a pair or an answer."""
    try:
        report = report_on(path, answers=True)
    except UnreadableRows as error:
        return "error", error.message, {}
    counts = asdict(report) | {"errors": report.errors[:KEPT_ERRORS]}
    if report.bad:
        return "error", _details(report), counts
    if not report.pairs + report.answers:
        return "error", "The file holds no pair and no answer.", counts
    return "processed", None, counts


def _details(report: FileReport) -> str:
    shown = "; ".join(
        f"line {error['line']}: {error['code']} ({error['message']})" for error in report.errors[:SHOWN_ERRORS]
    )
    more = f"; and {report.bad - SHOWN_ERRORS} more" if report.bad > SHOWN_ERRORS else ""
    return f"{report.bad} of {report.rows} rows are bad. {shown}{more}."
