"""Aligners and their devices, as they report them."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.placement import Device
from gateway.storage.aligner_tables import AlignerHost

SILENT_SECONDS = 60.0
"""An aligner of which nothing was heard for so long does not run."""


async def report_aligner(
    session: AsyncSession, aligner_id: str, host: str, devices: Sequence[Device], now: float
) -> None:
    """An aligner is there, and has these devices; those that are long gone are forgotten."""
    await session.execute(delete(AlignerHost).where(AlignerHost.seen_at < now - 100 * SILENT_SECONDS))
    values = {"devices": [device.model_dump() for device in devices], "seen_at": now}
    found = await session.execute(update(AlignerHost).where(AlignerHost.id == aligner_id).values(values))
    if found.rowcount == 0:  # type: ignore[attr-defined]
        session.add(AlignerHost(id=aligner_id, host=host, **values))


async def forget_aligner(session: AsyncSession, aligner_id: str) -> None:
    """An aligner ends in good order."""
    await session.execute(delete(AlignerHost).where(AlignerHost.id == aligner_id))


async def count_aligners(session: AsyncSession, now: float) -> int:
    """How many aligners run; each carries out one run at a time."""
    heard = AlignerHost.seen_at > now - SILENT_SECONDS
    return await session.scalar(select(func.count()).select_from(AlignerHost).where(heard)) or 0


async def newest_aligner(session: AsyncSession, now: float) -> AlignerHost | None:
    """The aligner of which something was heard last, if that is not long ago."""
    heard = AlignerHost.seen_at > now - SILENT_SECONDS
    found = select(AlignerHost).where(heard).order_by(AlignerHost.seen_at.desc()).limit(1)
    newest: AlignerHost | None = await session.scalar(found)
    return newest
