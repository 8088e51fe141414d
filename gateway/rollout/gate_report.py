"""The report of a release's gates, from its folder, from the bucket, or from its manifest, as operators see it."""

import asyncio
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.gate_report import REPORT_FILE, GateReport, calibrated, gravest
from gateway.contracts.release import GateResult
from gateway.errors import NotFound
from gateway.settings import Settings
from gateway.storage.bucket import Bucket
from gateway.storage.database import Database
from gateway.storage.gate_calibrations import find_calibration
from gateway.storage.releases import find_release
from gateway.storage.tables import ReleaseRow

REPORT_LIMIT_BYTES = 64 << 20


async def find_report(database: Database, settings: Settings, release: str) -> GateReport:
    """The report, with what the newest A/A run found about each limit.

    Raises `NotFound` for a release that is not there, or that no gate was asked about.
    """
    async with database.read() as session:
        row = await _find(session, release)
        newest = await find_calibration(session, row.alias)
    report = await asyncio.to_thread(_read, row, settings) or _of_manifest(row)
    if not report.gates:
        raise NotFound(
            f"{row.name} is a base model: no gate was asked about it. `alignway evaluate` measures it.",
            param="release",
            code="gates_not_asked",
        )
    if newest is None:
        return report
    return report.model_copy(update={"gates": calibrated(report.gates, newest), "calibration": newest})


async def _find(session: AsyncSession, release: str) -> ReleaseRow:
    row = await find_release(session, release)
    if row is None:
        raise NotFound(
            f"There is no release `{release}`. `alignway releases list` shows those there are.",
            param="release",
            code="release_not_found",
        )
    return row


def _read(row: ReleaseRow, settings: Settings) -> GateReport | None:
    """What lies in the release's folder; None for a base, or a release made before there were reports."""
    if row.kind == "base":
        return None
    place = f"{row.location}/{REPORT_FILE}"
    try:
        return GateReport.model_validate_json(_text(settings, place))
    except (FileNotFoundError, ValidationError):
        return None


def _text(settings: Settings, place: str) -> str:
    path: Path = settings.store_path / place
    if path.is_file() or not settings.store.url:
        return path.read_text(encoding="utf-8")
    return Bucket(settings.store.url, settings.store.endpoint_url).read_text(place, REPORT_LIMIT_BYTES)


def _of_manifest(row: ReleaseRow) -> GateReport:
    gates = tuple(GateResult.model_validate(gate) for gate in row.manifest.get("gates", ()))
    return GateReport.model_validate(
        {
            "release": row.id,
            "name": row.name,
            "alias": row.alias,
            "compared_with": row.parent_id,
            "created_at": row.created_at,
            "verdict": gravest(gates),
            "gates": gates,
        }
    )
