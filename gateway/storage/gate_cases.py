"""Cases as rows."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.contracts.case import Case, CaseBody
from gateway.storage.gate_tables import GateCase

_APART_SECONDS = 1e-5
"""Cases that came together keep their order."""


async def add_cases(
    session: AsyncSession, alias: str, cases: Sequence[CaseBody], actor: str, now: float
) -> list[GateCase]:
    """Keep cases of an alias, in their order."""
    rows = [
        GateCase(
            id=ids.mint(ids.GATE_CASE),
            alias=alias,
            body=case.model_dump(mode="json", exclude_none=True),
            severity=case.severity,
            actor=actor,
            created_at=now + number * _APART_SECONDS,
        )
        for number, case in enumerate(cases)
    ]
    session.add_all(rows)
    await session.flush()
    return rows


async def list_cases(session: AsyncSession, alias: str | None = None) -> Sequence[GateCase]:
    """The cases of an alias, or of all, oldest first."""
    statement = select(GateCase).order_by(GateCase.created_at, GateCase.id)
    return (await session.scalars(statement if alias is None else statement.where(GateCase.alias == alias))).all()


async def remove_case(session: AsyncSession, case_id: str) -> bool:
    """Keep a case no more; false if there is none of this id."""
    row = await session.get(GateCase, case_id)
    if row is None:
        return False
    await session.delete(row)
    return True


def case_of(row: GateCase) -> Case:
    """The case of a row."""
    return Case.model_validate({**row.body, "id": row.id})
