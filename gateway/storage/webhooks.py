"""The outbox of webhooks: put an event in, find what is due, note how an attempt went."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.contracts.training import RunState
from gateway.storage.feedback_tables import Run
from gateway.storage.webhook_tables import WebhookDelivery


def tell_of_end(session: AsyncSession, run: Run, state: RunState, now: float) -> None:
    """A run has ended: to be called in the transaction that ends it."""
    session.add(
        WebhookDelivery(
            id=ids.EVENT + ids.ulid(now),
            run_id=run.id,
            type=f"fine_tuning.job.{state}",
            created_at=now,
            attempts=0,
            next_at=now,
        )
    )


async def due_deliveries(session: AsyncSession, now: float, limit: int) -> Sequence[WebhookDelivery]:
    """Those to be tried now, the longest due first."""
    statement = select(WebhookDelivery).where(WebhookDelivery.next_at <= now)
    ordered = statement.order_by(WebhookDelivery.next_at, WebhookDelivery.id).limit(limit)
    return (await session.scalars(ordered)).all()


async def note_attempt(
    session: AsyncSession, delivery_id: str, now: float, *, error: str | None, next_at: float | None
) -> None:
    """One more attempt was made. Without an error it was delivered; with one and no `next_at` it is given up."""
    row = await session.get_one(WebhookDelivery, delivery_id, with_for_update=True)
    row.attempts, row.error, row.next_at = row.attempts + 1, error, next_at
    if error is None:
        row.delivered_at = now
