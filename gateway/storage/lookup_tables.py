"""Where completions are found by what they say, as a table. Columns only."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.tables import Table


class CompletionLookup(Table):
    """A digest of something that a choice can be named by; see `gateway/feedback/lookup.py`."""

    __tablename__ = "completion_lookup"
    digest: Mapped[str] = mapped_column(primary_key=True)
    completion_id: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    created_at: Mapped[float]
    """Of the completion."""

    __table_args__ = (Index(None, "completion_id"), Index(None, "project_id", "created_at"))
