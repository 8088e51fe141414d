"""What A/A runs found, as rows: the newest of each alias."""

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.gate_report import Calibration
from gateway.storage.audit import write_audit
from gateway.storage.gate_tables import GateCalibration


async def keep_calibration(session: AsyncSession, calibration: Calibration, actor: str) -> None:
    """Keep it instead of the one before."""
    body = calibration.model_dump(mode="json")
    row = GateCalibration(alias=calibration.alias, body=body, made_at=calibration.made_at.timestamp())
    await session.merge(row)
    told = {"subject": calibration.subject, "draws": calibration.draws, "holdout_pairs": calibration.holdout_pairs}
    await write_audit(session, actor=actor, action="gates.calibrated", subject=calibration.alias, after=told)


async def find_calibration(session: AsyncSession, alias: str) -> Calibration | None:
    """The newest of an alias."""
    row = await session.get(GateCalibration, alias)
    return None if row is None else Calibration.model_validate(row.body)
