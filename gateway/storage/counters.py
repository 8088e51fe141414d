"""Numbers that only grow."""

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.tables import Counter
from gateway.storage.upsert import insert_if_absent


async def next_value(session: AsyncSession, name: str) -> int:
    """Add one and return the new value; concurrent callers never get the same one."""
    await insert_if_absent(session, Counter, name=name, value=0)
    statement = update(Counter).where(Counter.name == name).values(value=Counter.value + 1).returning(Counter.value)
    return int((await session.execute(statement)).scalar_one())


async def current_value(session: AsyncSession, name: str) -> int:
    """The value last given out; 0 if none was."""
    return await session.scalar(select(Counter.value).where(Counter.name == name)) or 0
