"""What operators ask of every candidate, as a table. Columns only.

Times are unix seconds (float, UTC). Ids are those of `gateway/contracts/ids.py`.
"""

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.tables import Table


class GateCase(Table):
    """A case of an alias; see `gateway/contracts/case.py`."""

    __tablename__ = "gate_case"
    id: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(ForeignKey("alias.name"), index=True)
    body: Mapped[dict[str, Any]]
    severity: Mapped[str]
    """block or warn."""
    actor: Mapped[str]
    created_at: Mapped[float]


class GateCalibration(Table):
    """The newest A/A run of an alias; see `gateway/contracts/gate_report.py`."""

    __tablename__ = "gate_calibration"
    alias: Mapped[str] = mapped_column(ForeignKey("alias.name"), primary_key=True)
    body: Mapped[dict[str, Any]]
    made_at: Mapped[float]
