"""The annotation queue as rows: put in, hand out to one annotator at a time, count. What is asked is decided elsewhere.

A task is handed out under a row lock that others skip (PostgreSQL) or under the database's write lock (SQLite).
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import TASK, mint
from gateway.storage.annotation_tables import (
    AnnotationBallot,
    AnnotationGold,
    AnnotationRater,
    AnnotationTask,
    AnnotationVerdict,
)
from gateway.storage.feedback_tables import PairRow
from gateway.storage.upsert import insert_if_absent

Task = AnnotationTask
Verdict = AnnotationVerdict


async def add_task(session: AsyncSession, now: float, **values: Any) -> str | None:
    """Put a task into the queue, or back into it if its reason was gone; its id, or None if it is or was there.

    One item has one task for each purpose.
    """
    row = _row(now, values)
    added: str | None = await session.scalar(_insert(session).values(row).returning(Task.id))
    return added


async def add_tasks(session: AsyncSession, now: float, tasks: Iterable[dict[str, Any]]) -> None:
    """The same for many."""
    if found := [_row(now, values) for values in tasks]:
        await session.execute(_insert(session), found)


def _row(now: float, values: dict[str, Any]) -> dict[str, Any]:
    row = {"id": mint(TASK), "created_at": now, "rater_hash": "", "place": 0.0, "margin": None, "wanted": 1, "given": 0}
    return row | values | {"state": "open", "left_first": True}


def _insert(session: AsyncSession) -> Any:
    statement = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(Task)
    return statement.on_conflict_do_update(
        index_elements=["project_id", "item", "purpose", "rater_hash"],
        set_={"state": "open", "place": statement.excluded.place},
        where=Task.state == "gone",
    )


async def next_task(
    session: AsyncSession, project_id: str, rater_hash: str, alias: str | None, now: float, *, conflict_tier: int
) -> Task | None:
    """The first task that nobody holds and the rater may have, locked.

    What a model's margin speaks against comes right before `conflict_tier`. Each of the three questions is answered
    in the order of an index, so that of a long queue only the head is looked at.
    """
    free = or_(Task.lease_expires_at.is_(None), Task.lease_expires_at <= now)
    open_to = select(Task).where(Task.project_id == project_id, Task.state == "open", free, _open_to(rater_hash))
    if alias is not None:
        open_to = open_to.where(Task.alias == alias)
    by_place = open_to.order_by(Task.tier, Task.place, Task.created_at, Task.id)
    heads = (
        by_place.where(Task.tier < conflict_tier),
        open_to.where(Task.margin < 0, Task.tier >= conflict_tier).order_by(Task.margin),
        by_place.where(Task.tier >= conflict_tier),
    )
    for head in heads:
        locked = head.limit(1).with_for_update(skip_locked=True).execution_options(populate_existing=True)
        if (task := await session.scalar(locked)) is not None:
            return task
    return None


def _open_to(rater_hash: str) -> ColumnElement[bool]:
    """Tasks meant for this rater alone, and all those on items that he or she has not judged."""
    barred = exists().where(AnnotationRater.task_id == Task.id, AnnotationRater.rater_hash == rater_hash)
    voted = exists().where(
        AnnotationBallot.project_id == Task.project_id,
        AnnotationBallot.item == Task.item,
        AnnotationBallot.rater_hash == rater_hash,
    )
    judged = exists().where(
        Verdict.project_id == Task.project_id,
        Verdict.item == Task.item,
        Verdict.rater_hash == rater_hash,
        Verdict.verdict != "skip",
        Verdict.undone_at.is_(None),
    )
    return and_(~barred, or_(Task.rater_hash == rater_hash, and_(Task.rater_hash == "", ~voted, ~judged)))


async def held_task(
    session: AsyncSession, project_id: str, rater_hash: str, alias: str | None, now: float
) -> Task | None:
    """The task that the rater holds already."""
    statement = select(Task).where(
        Task.holder == rater_hash, Task.project_id == project_id, Task.state == "open", Task.lease_expires_at > now
    )
    if alias is not None:
        statement = statement.where(Task.alias == alias)
    return await session.scalar(statement.order_by(Task.id).limit(1).with_for_update())


async def lock_task(session: AsyncSession, project_id: str, task_id: str) -> Task | None:
    """A task of the project, kept from others until the transaction ends."""
    statement = select(Task).where(Task.id == task_id, Task.project_id == project_id)
    return await session.scalar(statement.with_for_update().execution_options(populate_existing=True))


async def bar(session: AsyncSession, task_id: str, rater_hash: str) -> None:
    """Keep a task from a rater."""
    await insert_if_absent(session, AnnotationRater, task_id=task_id, rater_hash=rater_hash)


async def unbar(session: AsyncSession, task_id: str, rater_hash: str) -> None:
    """Let a rater have a task again."""
    row = await session.get(AnnotationRater, (task_id, rater_hash))
    if row is not None:
        await session.delete(row)


async def verdict_on(session: AsyncSession, task_id: str, rater_hash: str) -> Verdict | None:
    """What a rater said of a task, unless it was undone."""
    own = (Verdict.task_id == task_id, Verdict.rater_hash == rater_hash, Verdict.undone_at.is_(None))
    return await session.scalar(select(Verdict).where(*own).order_by(Verdict.at.desc()).limit(1))


async def verdicts_of(
    session: AsyncSession, project_id: str, rater_hash: str, limit: int, behind: Verdict | None = None
) -> Sequence[Verdict]:
    """What a rater said, newest first, without what was undone."""
    statement = select(Verdict).where(
        Verdict.project_id == project_id, Verdict.rater_hash == rater_hash, Verdict.undone_at.is_(None)
    )
    if behind is not None:
        older = and_(Verdict.at == behind.at, Verdict.id < behind.id)
        statement = statement.where(or_(Verdict.at < behind.at, older))
    return (await session.scalars(statement.order_by(Verdict.at.desc(), Verdict.id.desc()).limit(limit))).all()


async def gold_for(
    session: AsyncSession, project_id: str, rater_hash: str, alias: str | None
) -> Sequence[AnnotationGold]:
    """Gold items that the rater was not given yet."""
    given = exists().where(
        Task.project_id == project_id,
        Task.item == AnnotationGold.item,
        Task.purpose == "gold",
        Task.rater_hash == rater_hash,
    )
    statement = select(AnnotationGold).where(
        AnnotationGold.project_id == project_id, AnnotationGold.retired_at.is_(None), ~given
    )
    if alias is not None:
        statement = statement.where(AnnotationGold.alias == alias)
    return (await session.scalars(statement.order_by(AnnotationGold.id).limit(100))).all()


async def count_tasks(session: AsyncSession, project_id: str, now: float) -> list[tuple[str, str, int, int]]:
    """Purpose, state, how many, and how many of them are held now; without those meant for one rater."""
    held = func.count().filter(Task.lease_expires_at > now)
    statement = (
        select(Task.purpose, Task.state, func.count(), held)
        .where(Task.project_id == project_id, Task.rater_hash == "")
        .group_by(Task.purpose, Task.state)
        .order_by(Task.purpose, Task.state)
    )
    return [(purpose, state, number, leased) for purpose, state, number, leased in await session.execute(statement)]


async def count_verdicts(session: AsyncSession, project_id: str, rater_hash: str) -> int:
    """How many verdicts a rater gave that stand, skips aside."""
    statement = select(func.count()).where(
        Verdict.project_id == project_id,
        Verdict.rater_hash == rater_hash,
        Verdict.undone_at.is_(None),
        Verdict.verdict != "skip",
    )
    return await session.scalar(statement) or 0


async def held_pairs(session: AsyncSession, project_id: str, reasons: Iterable[str], limit: int) -> Sequence[PairRow]:
    """Pairs that wait for somebody to look at them, and are in no task yet."""
    queued = exists().where(Task.project_id == project_id, Task.item == PairRow.id)
    statement = select(PairRow).where(
        PairRow.project_id == project_id, PairRow.state == "held", PairRow.reason.in_(list(reasons)), ~queued
    )
    return (await session.scalars(statement.order_by(PairRow.id).limit(limit))).all()


async def pairs_of_votes(session: AsyncSession, feedback_ids: Sequence[str]) -> Sequence[PairRow]:
    """The pairs of these votes that train or are held, locked."""
    statement = select(PairRow).where(
        PairRow.feedback_id.in_(list(feedback_ids)), PairRow.state.in_(("eligible", "held"))
    )
    return (await session.scalars(statement.order_by(PairRow.id).with_for_update())).all()


async def close_unheld(session: AsyncSession, project_id: str, items: Sequence[str], purpose: str) -> None:
    """Take tasks out of the queue whose reason is gone, unless somebody holds or judged them."""
    await session.execute(
        update(Task)
        .where(Task.project_id == project_id, Task.item.in_(items), Task.purpose == purpose)
        .where(Task.state == "open", Task.holder.is_(None), Task.given == 0)
        .values(state="gone")
        .execution_options(synchronize_session=False)
    )


async def first_verdict(session: AsyncSession, project_id: str, item: str, rater_hash: str) -> Verdict | None:
    """What a rater said of an item when it was not a repeat."""
    own = (Verdict.project_id == project_id, Verdict.item == item, Verdict.rater_hash == rater_hash)
    plain = (Verdict.purpose.not_in(("gold", "repeat")), Verdict.verdict != "skip", Verdict.undone_at.is_(None))
    return await session.scalar(select(Verdict).where(*own, *plain).order_by(Verdict.at.desc()).limit(1))


async def gold_answer(session: AsyncSession, project_id: str, item: str) -> str | None:
    """Which side of a gold item is better."""
    statement = select(AnnotationGold.better).where(
        AnnotationGold.project_id == project_id, AnnotationGold.item == item
    )
    return await session.scalar(statement.order_by(AnnotationGold.created_at.desc()).limit(1))


async def pairs_by_id(session: AsyncSession, ids: Sequence[str]) -> Sequence[PairRow]:
    """These pairs, locked, in the order of their ids."""
    statement = select(PairRow).where(PairRow.id.in_(list(ids))).order_by(PairRow.id)
    return (await session.scalars(statement.with_for_update().execution_options(populate_existing=True))).all()


async def repeats_of(session: AsyncSession, project_id: str, rater_hash: str) -> list[bool]:
    """Of each repeat that a rater judged: whether the verdict was that of the first time."""
    own = (Verdict.project_id == project_id, Verdict.rater_hash == rater_hash, Verdict.undone_at.is_(None))
    statement = select(Verdict.consistent).where(*own, Verdict.consistent.is_not(None))
    return [bool(same) for same in await session.scalars(statement)]
