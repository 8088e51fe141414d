"""Votes between two choices, found by what they compare. What they mean is decided in `gateway/annotation`."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.annotation_tables import AnnotationBallot, AnnotationCursor
from gateway.storage.feedback_tables import Feedback, PairRow
from gateway.storage.upsert import insert_if_absent


async def lock_cursor(session: AsyncSession, project_id: str) -> AnnotationCursor:
    """How far the ballots of the project go; kept from others until the transaction ends."""
    await insert_if_absent(session, AnnotationCursor, project_id=project_id, updated_at=0.0)
    return await session.get_one(AnnotationCursor, project_id, with_for_update=True, populate_existing=True)


async def changed_preferences(
    session: AsyncSession, project_id: str, since: float, behind: tuple[float, str] | None, limit: int
) -> Sequence[Feedback]:
    """Preferences that changed at `since` or later, in order of change, from the one behind `behind` on."""
    place = tuple_(Feedback.updated_at, Feedback.id)
    statement = select(Feedback).where(
        Feedback.project_id == project_id, Feedback.type == "preference", Feedback.updated_at >= since
    )
    if behind is not None:
        statement = statement.where(place > tuple_(*behind))
    return (await session.scalars(statement.order_by(Feedback.updated_at, Feedback.id).limit(limit))).all()


async def put_ballots(session: AsyncSession, ballots: Sequence[dict[str, Any]]) -> None:
    """Store ballots, those of known votes anew."""
    if not ballots:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(AnnotationBallot)
    renewed = {name: statement.excluded[name] for name in ("item", "verdict", "rater_kind", "alias", "at")}
    await session.execute(statement.on_conflict_do_update(index_elements=["feedback_id"], set_=renewed), ballots)


async def drop_ballots(session: AsyncSession, feedback_ids: Sequence[str]) -> None:
    """Forget the ballots of votes that count no more."""
    if feedback_ids:
        await session.execute(delete(AnnotationBallot).where(AnnotationBallot.feedback_id.in_(feedback_ids)))


async def ballots_on(session: AsyncSession, project_id: str, items: Iterable[str]) -> dict[str, list[AnnotationBallot]]:
    """All ballots on these items."""
    found: dict[str, list[AnnotationBallot]] = {}
    statement = select(AnnotationBallot).where(
        AnnotationBallot.project_id == project_id, AnnotationBallot.item.in_(list(items))
    )
    for ballot in await session.scalars(statement.order_by(AnnotationBallot.feedback_id)):
        found.setdefault(ballot.item, []).append(ballot)
    return found


async def newest_ballots(session: AsyncSession, alias: str, kinds: Sequence[str], limit: int) -> list[AnnotationBallot]:
    """The newest ballots on answers of an alias by these kinds of raters."""
    statement = select(AnnotationBallot).where(AnnotationBallot.alias == alias, AnnotationBallot.rater_kind.in_(kinds))
    return list(await session.scalars(statement.order_by(AnnotationBallot.at.desc()).limit(limit)))


async def eligible_pairs_of(session: AsyncSession, feedback_ids: Sequence[str]) -> Sequence[PairRow]:
    """The pairs of these votes that may train."""
    statement = select(PairRow).where(PairRow.feedback_id.in_(feedback_ids), PairRow.state == "eligible")
    return (await session.scalars(statement.order_by(PairRow.id))).all()


async def newest_ballots_by(
    session: AsyncSession, project_id: str, rater_hash: str, limit: int
) -> list[AnnotationBallot]:
    """The newest ballots of one rater."""
    statement = select(AnnotationBallot).where(
        AnnotationBallot.project_id == project_id, AnnotationBallot.rater_hash == rater_hash
    )
    return list(await session.scalars(statement.order_by(AnnotationBallot.at.desc()).limit(limit)))
