"""What aligners say of themselves, as a table."""

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.tables import Table


class AlignerHost(Table):
    """An aligner at work or waiting for work, and the devices it could train on."""

    __tablename__ = "aligner_host"
    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    devices: Mapped[list[Any]]
    """As `gateway/contracts/placement.py` has them."""
    seen_at: Mapped[float]
