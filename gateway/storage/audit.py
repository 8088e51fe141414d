"""Who did what to which record: written in the transaction that does it, so neither is there without the other."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.errors import NotFound
from gateway.storage.tables import ApiKey, AuditEntry

COMMAND_LINE = "command line"
"""The actor of what is done on the records directly, without a key."""
START = "start"
"""The actor of what is done by starting Alignway, such as making the first key."""
KEEPER = "keeper"
"""The actor of what is done by itself to save room."""
PLACE = tuple_(AuditEntry.at, AuditEntry.id)


@dataclass(frozen=True)
class Audited:
    """An entry, and what its actor is called now."""

    row: AuditEntry
    actor_name: str | None
    """The name of the key; None where the actor is no key."""


async def write_audit(
    session: AsyncSession,
    *,
    actor: str,
    action: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Note that `actor` (the id of a key, or one of the names above) did `action` to `subject`; give it no secrets."""
    detail = {"before": None if before is None else dict(before), "after": None if after is None else dict(after)}
    row = AuditEntry(id=ids.mint(ids.AUDIT), actor=actor, action=action, subject=subject, detail=detail, at=time.time())
    session.add(row)
    await session.flush()


async def list_audit(
    session: AsyncSession,
    limit: int,
    *,
    behind: str | None = None,
    action: str | None = None,
    actor: str | None = None,
    subject: str | None = None,
) -> Sequence[Audited]:
    """Entries, newest first, beginning behind the one of that id. Raises `NotFound` if there is none of that id."""
    statement = select(AuditEntry, ApiKey.name).outerjoin(ApiKey, ApiKey.id == AuditEntry.actor)
    if behind is not None:
        last = await session.get(AuditEntry, behind)
        if last is None:
            raise NotFound(
                f"There is no audit entry `{behind}`; give the `last_id` of the page before.",
                param="after",
                code="audit_entry_not_found",
            )
        statement = statement.where(tuple_(literal(last.at), literal(last.id)) > PLACE)
    wanted = ((AuditEntry.action, action), (AuditEntry.actor, actor), (AuditEntry.subject, subject))
    for column, value in wanted:
        if value is not None:
            statement = statement.where(column == value)
    rows = await session.execute(statement.order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit))
    return [Audited(row, name) for row, name in rows]
