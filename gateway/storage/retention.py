"""Deletes records that are too old, a batch at a time, and remembers when that was last done."""

from collections.abc import Sequence

from sqlalchemy import Table as SqlTable
from sqlalchemy import delete, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Completion, Dataset, Run
from gateway.storage.privacy_tables import CompletionVote, RetentionRow
from gateway.storage.runs import UNFINISHED_STATES
from gateway.storage.tables import Project, ReleaseRow

Place = tuple[float, str]
DEPLOYABLE = ("staged", "published", "retired")
"""States of a release that serves or may be made to."""


async def list_retention(session: AsyncSession) -> Sequence[RetentionRow]:
    """When each kind was last purged."""
    return (await session.scalars(select(RetentionRow).order_by(RetentionRow.kind))).all()


async def note_purge(session: AsyncSession, kind: str, deleted: int, now: float) -> None:
    """Remember that records of a kind were purged."""
    row = await session.get(RetentionRow, kind)
    if row is None:
        session.add(RetentionRow(kind=kind, last_run_at=now, last_deleted=deleted, deleted=deleted))
    else:
        row.last_run_at, row.last_deleted, row.deleted = now, deleted, row.deleted + deleted


async def project_ids(session: AsyncSession) -> Sequence[str]:
    """All projects."""
    return (await session.scalars(select(Project.id).order_by(Project.id))).all()


async def old_completions(
    session: AsyncSession, project_id: str, behind: Place, before: float, *, voted: bool, limit: int
) -> Sequence[tuple[float, str]]:
    """Times and ids of a project's completions made before a time, by age from behind a place on; those somebody
    voted on, or the others."""
    place = tuple_(Completion.created_at, Completion.id)
    has_vote = select(1).where(CompletionVote.completion_id == Completion.id).exists()
    statement = (
        select(Completion.created_at, Completion.id)
        .where(Completion.project_id == project_id, Completion.created_at < before)
        .where(place > tuple_(*(literal(part) for part in behind)))
        .where(has_vote if voted else ~has_vote)
        .order_by(Completion.created_at, Completion.id)
        .limit(limit)
    )
    return [(at, id_) for at, id_ in await session.execute(statement)]


async def delete_completions(session: AsyncSession, ids: Sequence[str]) -> int:
    """Delete completions; the votes on them and their pairs stay."""
    result = await session.execute(delete(Completion).where(Completion.id.in_(ids)))
    return int(result.rowcount)  # type: ignore[attr-defined]


async def delete_older(session: AsyncSession, table: SqlTable, column: str, before: float, limit: int) -> int:
    """Delete rows of a table with a key of one column, or of several, whose time in `column` is before that."""
    keys = list(table.primary_key.columns)
    old = (await session.execute(select(*keys).where(table.c[column] < before).limit(limit))).all()
    for row in old:
        await session.execute(delete(table).where(*(key == value for key, value in zip(keys, row, strict=True))))
    return len(old)


async def mark_unused_datasets(session: AsyncSession, now: float) -> None:
    """Note since when data sets are of no use: no release trained on them can be deployed, and no run is at them."""
    trained = (await session.scalars(select(ReleaseRow).where(ReleaseRow.state.in_(DEPLOYABLE)))).all()
    used = {release.manifest.get("dataset_id") for release in trained}
    for source in (Run.dataset_id, Run.training_file, Run.validation_file):
        used |= set(await session.scalars(select(source).where(Run.state.in_(UNFINISHED_STATES))))
    for dataset in await session.scalars(select(Dataset).where(Dataset.removed_at.is_(None))):
        if dataset.id in used:
            dataset.unused_since = None
        elif dataset.unused_since is None:
            dataset.unused_since = now


async def outlived_datasets(session: AsyncSession, before: float) -> Sequence[Dataset]:
    """Data sets of no use since before that time."""
    statement = select(Dataset).where(Dataset.removed_at.is_(None), Dataset.unused_since < before)
    return (await session.scalars(statement.order_by(Dataset.id))).all()
