"""Erasures as rows, and what they delete, a bounded batch at a time. The order of the steps is in `gateway/privacy`.

Whatever is deleted leaves the tombstone of its id in the same transaction, so a step that was cut off goes on where it
was, and data sets can be searched for what is gone.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Table as SqlTable
from sqlalchemy import delete, select, union
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from gateway.storage.privacy_tables import CompletionVote, Erasure, PairVote, RaterRow, Tombstone
from gateway.storage.tables import Table, Usage
from gateway.storage.usage import COUNTS, add_usage

Counts = Counter[str]
BURIED_AT_A_TIME = 1000
UNCHECKED = select(Erasure.id).where(Erasure.checked_at.is_(None)).limit(1)
"""Finds a row while there is an erasure that is not done, or was not looked at again."""


async def open_erasures(session: AsyncSession) -> Sequence[str]:
    """The ids of erasures that are not done, oldest first."""
    statement = select(Erasure.id).where(Erasure.finished_at.is_(None)).order_by(Erasure.created_at, Erasure.id)
    return (await session.scalars(statement)).all()


async def unchecked_erasures(session: AsyncSession, before: float) -> Sequence[Erasure]:
    """Erasures that ended before that time and were not looked at again."""
    statement = select(Erasure).where(Erasure.finished_at < before, Erasure.checked_at.is_(None))
    return (await session.scalars(statement.order_by(Erasure.created_at, Erasure.id))).all()


async def list_erasures(session: AsyncSession, limit: int) -> Sequence[Erasure]:
    """Erasures, newest first."""
    statement = select(Erasure).order_by(Erasure.created_at.desc(), Erasure.id.desc()).limit(limit)
    return (await session.scalars(statement)).all()


async def votes_to_erase(session: AsyncSession, erasure: Erasure, limit: int) -> Sequence[str]:
    """Some ids of votes by the user, or about the user's completions."""
    links = select(CompletionVote.feedback_id).where(CompletionVote.end_user_hash == erasure.end_user_hash)
    if erasure.project_id is not None:
        links = links.join(Feedback, Feedback.id == CompletionVote.feedback_id)
        links = links.where(Feedback.project_id == erasure.project_id)
    own = select(Feedback.id).where(Feedback.rater_hash.in_(list(erasure.rater_hashes.values())))
    return (await session.scalars(union(own, links).limit(limit))).all()


async def completions_to_erase(session: AsyncSession, erasure: Erasure, limit: int) -> Sequence[str]:
    """Some ids of the user's completions."""
    statement = select(Completion.id).where(Completion.end_user_hash == erasure.end_user_hash)
    if erasure.project_id is not None:
        statement = statement.where(Completion.project_id == erasure.project_id)
    return (await session.scalars(statement.limit(limit))).all()


async def delete_votes(session: AsyncSession, erasure_id: str, votes: Collection[str]) -> Counts:
    """Delete votes with their history, whatever else names them, and all pairs they have part in."""
    own = select(PairRow.id).where(PairRow.feedback_id.in_(votes))
    pairs = (await session.scalars(union(own, select(PairVote.pair_id).where(PairVote.feedback_id.in_(votes))))).all()
    await bury(session, erasure_id, [*votes, *pairs])
    counts: Counts = Counter()
    counts["pair_vote"] += await _delete(session, Table.metadata.tables["pair_vote"], "pair_id", pairs)
    counts["feedback_pair"] += await _delete(session, Table.metadata.tables["feedback_pair"], "id", pairs)
    for table in _naming("feedback_id"):
        counts[table.name] += await _delete(session, table, "feedback_id", votes)
    counts["feedback"] += await _delete(session, Feedback.metadata.tables["feedback"], "id", votes)
    return counts


async def delete_completions(session: AsyncSession, erasure_id: str, completions: Collection[str]) -> Counts:
    """Delete completions; the votes about them must be gone."""
    await bury(session, erasure_id, completions)
    return Counter(completion=await _delete(session, Table.metadata.tables["completion"], "id", completions))


async def delete_by_rater(session: AsyncSession, raters: dict[str, Any]) -> Counts:
    """Delete what else is kept under the user's hashes as a rater: places in the queue, verdicts, notes."""
    counts: Counts = Counter()
    for table in _naming("rater_hash"):
        if table.name != "feedback":
            deleted = await _delete(session, table, "rater_hash", list(raters.values()))
            counts[table.name] += deleted if table is not Table.metadata.tables["rater_tally"] else 0
    for project_id, id_hash in raters.items():
        found = await session.get(RaterRow, (project_id, id_hash))
        if found is not None:
            await session.delete(found)
            counts["rater"] += 1
    return counts


async def make_usage_nobodys(session: AsyncSession, erasure: Erasure) -> Counts:
    """Count what the user used among that of nobody in particular: keys are billed as before."""
    statement = select(Usage).where(Usage.end_user_hash == erasure.end_user_hash)
    if erasure.project_id is not None:
        statement = statement.where(Usage.project_id == erasure.project_id)
    rows = (await session.scalars(statement)).all()
    if rows:
        kept = ("month", "key_id", "project_id", *COUNTS)
        nobodys = [{name: getattr(row, name) for name in kept} | {"end_user_hash": ""} for row in rows]
        await add_usage(session, nobodys)
        for row in rows:
            await session.delete(row)
        await session.flush()
    return Counter(usage=len(rows))


async def bury(session: AsyncSession, erasure_id: str, dead: Iterable[str]) -> None:
    """Leave tombstones."""
    rows = [{"id": id_, "erasure_id": erasure_id} for id_ in dead]
    if rows:
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        await session.execute(insert(Tombstone).on_conflict_do_nothing(), rows)


async def tombstones_of(session: AsyncSession, erasure_id: str) -> list[str]:
    """The ids that an erasure buried, sorted."""
    statement = select(Tombstone.id).where(Tombstone.erasure_id == erasure_id).order_by(Tombstone.id)
    return list(await session.scalars(statement))


async def any_buried(session: AsyncSession, ids: Sequence[str]) -> bool:
    """Whether one of these was erased."""
    for begin in range(0, len(ids), BURIED_AT_A_TIME):
        piece = ids[begin : begin + BURIED_AT_A_TIME]
        if await session.scalar(select(Tombstone.id).where(Tombstone.id.in_(piece)).limit(1)) is not None:
            return True
    return False


def _naming(column: str) -> list[SqlTable]:
    """Every table with a column of this name, those that refer to others first."""
    return [table for table in reversed(Table.metadata.sorted_tables) if column in table.c]


async def _delete(session: AsyncSession, table: SqlTable, column: str, values: Collection[str]) -> int:
    result = await session.execute(delete(table).where(table.c[column].in_(values)))
    return int(result.rowcount)  # type: ignore[attr-defined]
