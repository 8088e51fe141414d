"""Uploaded files, as a table. Columns only; the bytes lie in the store."""

from typing import Any

from sqlalchemy import Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.tables import Table


class UploadedFile(Table):
    """A file of rows that a project uploaded."""

    __tablename__ = "uploaded_file"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    key_id: Mapped[str]
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    status: Mapped[str]
    """processed, or error: no row could be read, or some are bad."""
    status_details: Mapped[str | None] = mapped_column(Text)
    counts: Mapped[dict[str, Any]]
    """Rows, pairs, answers, bad rows, and rows by format."""
    location: Mapped[str]
    """Relative to the store."""
    created_at: Mapped[float]

    __table_args__ = (Index(None, "project_id", "created_at"),)
