"""Insert a row unless it is there already: the one thing the two databases spell differently."""

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.tables import Table


async def insert_if_absent(session: AsyncSession, table: type[Table], **values: Any) -> None:
    """Insert; on a conflict with an existing row, or with one another transaction is inserting, leave that one."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    await session.execute(insert(table).values(**values).on_conflict_do_nothing())
