"""Requests with an `Idempotency-Key` as rows: claim one, keep its answer, let go of it."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.idempotency_tables import IdempotencyKey
from gateway.storage.tables import GatewayWorker

KEEP_SECONDS = 24 * 3600.0
"""An answer is remembered for this long."""
IN_FLIGHT_SECONDS = 60.0
"""A request that has no answer after this long has none any more: its worker lost it."""
SILENT_SECONDS = 10.0
"""A worker without a heartbeat for this long is dead, and what it had in flight with it."""
QUIETLY: dict[str, Any] = {"synchronize_session": False}


@dataclass(frozen=True)
class Claim:
    """What is known of a request once it was claimed."""

    key_id: str
    name: str
    digest: str
    claimed_at: float
    status: int | None
    reply: str | None
    is_ours: bool
    """Whether we are to carry it out."""


async def claim_request(session: AsyncSession, key_id: str, name: str, digest: str, holder: str) -> Claim:
    """Claim a request, or see who has. One that is in flight at a worker that died is claimed anew."""
    now = time.time()
    await session.execute(
        delete(IdempotencyKey).where(IdempotencyKey.claimed_at < now - KEEP_SECONDS), execution_options=QUIETLY
    )
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    ours = {"key_id": key_id, "name": name, "digest": digest, "holder": holder, "claimed_at": now}
    statement = insert(IdempotencyKey).values(**ours).on_conflict_do_nothing().returning(IdempotencyKey.name)
    is_ours = await session.scalar(statement) is not None
    row = await session.get_one(IdempotencyKey, (key_id, name), with_for_update=True, populate_existing=True)
    if not is_ours and row.status is None and row.digest == digest and await _is_lost(session, row, now):
        row.holder, row.claimed_at, is_ours = holder, now, True
        await session.flush()
    return Claim(key_id, name, row.digest, row.claimed_at, row.status, row.reply, is_ours)


async def keep_answer(session: AsyncSession, claim: Claim, status: int, reply: str | None) -> None:
    """Remember the answer of a request, unless somebody else has taken it over meanwhile."""
    statement = update(IdempotencyKey).where(*_claimed(claim)).values(status=status, reply=reply)
    await session.execute(statement, execution_options=QUIETLY)


async def let_go(session: AsyncSession, claim: Claim) -> None:
    """Forget a request that was refused or failed: it may be tried again, and changed before."""
    statement = delete(IdempotencyKey).where(*_claimed(claim), IdempotencyKey.status.is_(None))
    await session.execute(statement, execution_options=QUIETLY)


def _claimed(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """The row, as long as nobody else took it over."""
    return (
        IdempotencyKey.key_id == claim.key_id,
        IdempotencyKey.name == claim.name,
        IdempotencyKey.claimed_at == claim.claimed_at,
    )


async def _is_lost(session: AsyncSession, row: IdempotencyKey, now: float) -> bool:
    worker = await session.get(GatewayWorker, row.holder, populate_existing=True)
    is_dead = worker is None or worker.seen_at < now - SILENT_SECONDS
    return is_dead or row.claimed_at < now - IN_FLIGHT_SECONDS
