"""Up to where the schedule of an alias is dealt with. No decision lives here."""

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Run
from gateway.storage.runs import OPEN_STATES
from gateway.storage.tables import Alias


async def has_open_run(session: AsyncSession, alias: str) -> bool:
    """Whether a run of the alias waits or is at work."""
    found = select(Run.id).where(Run.alias == alias, Run.state.in_(OPEN_STATES)).limit(1)
    return await session.scalar(found) is not None


async def last_run_at(session: AsyncSession, alias: str, until: float) -> float | None:
    """When the newest run was asked for; those with a time after `until` do not count."""
    newest = select(func.max(Run.created_at)).where(Run.alias == alias, Run.created_at <= until)
    found: float | None = await session.scalar(newest)
    return found


async def advance_schedule(
    session: AsyncSession, alias: Alias, schedule: str | None, until: float, remark: str | None
) -> bool:
    """Deal with everything planned up to `until`; False if somebody else has since `alias` was read."""
    statement = (
        update(Alias)
        .where(Alias.name == alias.name, Alias.scheduled_until.is_not_distinct_from(alias.scheduled_until))
        .where(Alias.schedule.is_not_distinct_from(alias.schedule))
        .values(schedule=schedule, scheduled_until=until, schedule_remark=remark)
    )
    result = await session.execute(statement, execution_options={"synchronize_session": False})
    return bool(result.rowcount == 1)  # type: ignore[attr-defined]
