"""The outbox of webhooks, as a table. Columns only."""

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.tables import Table


class WebhookDelivery(Table):
    """An event that somebody is to be told of; written in the transaction in which it happened."""

    __tablename__ = "webhook_delivery"
    id: Mapped[str] = mapped_column(primary_key=True)
    """Also the id of the event: the same in every attempt, so that a receiver can tell a repetition."""
    run_id: Mapped[str]
    type: Mapped[str]
    created_at: Mapped[float]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float | None] = mapped_column(index=True)
    """When to try next; None: it was delivered, or given up."""
    delivered_at: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)
    """Why the last attempt failed."""
