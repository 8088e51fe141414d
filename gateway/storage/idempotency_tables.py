"""What was answered to requests that carried an `Idempotency-Key`, as a table. Columns only."""

from sqlalchemy import Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.tables import Table


class IdempotencyKey(Table):
    """One request of one API key, and its answer once there is one."""

    __tablename__ = "idempotency_key"
    key_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    """What the client wrote into the header."""
    digest: Mapped[str]
    """SHA-256 of method, path and body."""
    holder: Mapped[str]
    """The worker that carries the request out, or did."""
    claimed_at: Mapped[float]
    status: Mapped[int | None]
    """HTTP status of the answer; none while the request is in flight."""
    reply: Mapped[str | None] = mapped_column(Text)
    """The body of the answer; none if it holds a secret."""

    __table_args__ = (Index(None, "claimed_at"),)
