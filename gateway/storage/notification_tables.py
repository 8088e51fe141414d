"""What people are to be told, and how far each telling is, as tables. Columns only; no text of users.

Times are unix seconds (float, UTC). Ids are those of `gateway/contracts/ids.py`.
"""

from typing import Any

from sqlalchemy import ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.tables import Table

IS_NEW = text("state = 'new'")
IS_WAITING = text("state = 'waiting'")


class Notification(Table):
    """Something that people are told, written in the transaction in which it came about."""

    __tablename__ = "notification"
    id: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str]
    """See `gateway/contracts/notice.py`."""
    alias: Mapped[str]
    key: Mapped[str]
    """The same for what is to be told once."""
    feedback_id: Mapped[str | None] = mapped_column(index=True)
    """The vote it is about, so that an erasure finds it."""
    facts: Mapped[dict[str, Any]]
    times: Mapped[int] = mapped_column(default=1)
    """How often the same came about since it was told."""
    state: Mapped[str]
    """`new` until it is known whom to tell, then `addressed`."""
    created_at: Mapped[float]
    last_at: Mapped[float]
    """When it came about the last time."""

    __table_args__ = (
        Index(None, "key", "created_at"),
        Index(None, "created_at"),
        Index("ix_notification_new", "state", sqlite_where=IS_NEW, postgresql_where=IS_NEW),
    )


class Delivery(Table):
    """A notification on its way to one target."""

    __tablename__ = "delivery"
    notification_id: Mapped[str] = mapped_column(ForeignKey("notification.id"), primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    """Its name in the settings."""
    feedback_id: Mapped[str | None] = mapped_column(index=True)
    state: Mapped[str]
    """waiting, delivered, failed (given up) or left_out (over the limit of an hour)."""
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[float]
    detail: Mapped[str] = mapped_column(Text, default="")
    """What the target answered last."""
    updated_at: Mapped[float]

    __table_args__ = (
        Index(None, "target", "updated_at"),
        Index("ix_delivery_waiting", "target", "due_at", sqlite_where=IS_WAITING, postgresql_where=IS_WAITING),
    )
