"""What the judge made of tasks, as rows."""

from collections.abc import Sequence

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.annotation_tables import AnnotationJudgement, AnnotationTask


async def due_tasks(session: AsyncSession, now: float, limit: int) -> Sequence[tuple[AnnotationTask, int]]:
    """Comparisons that the judge has not seen, or is to try again now; and how often it tried."""
    judgement = AnnotationJudgement
    again = and_(judgement.state == "waiting", judgement.next_at <= now)
    statement = (
        select(AnnotationTask, judgement.attempts)
        .outerjoin(judgement, judgement.task_id == AnnotationTask.id)
        .where(AnnotationTask.purpose == "comparison", AnnotationTask.state != "gone")
        .where(or_(judgement.task_id.is_(None), again))
        .order_by(AnnotationTask.created_at, AnnotationTask.id)
        .limit(limit)
    )
    return [(task, attempts or 0) for task, attempts in await session.execute(statement)]


async def put_judgement(session: AsyncSession, judgement: AnnotationJudgement) -> None:
    """Store what the judge made of a task, instead of what it made of it before."""
    await session.merge(judgement)
    await session.flush()


async def count_judgements(session: AsyncSession, alias: str) -> dict[str, int]:
    """How often the judge came to what, on answers of an alias."""
    state = AnnotationJudgement.state
    counted = select(state, func.count()).where(AnnotationJudgement.alias == alias).group_by(state).order_by(state)
    return {row[0]: row[1] for row in await session.execute(counted)}
