"""Deletes what is kept no longer: completions, frozen data sets, the audit log.

Pairs outlive their completions: they hold their own texts, and are as lasting as the vote they follow from.
"""

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.privacy import dataset_files
from gateway.settings import RetentionSettings
from gateway.storage import retention as rows
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Dataset
from gateway.storage.tables import Table

DAY_SECONDS = 86400.0
MAX_BATCHES = 2000
"""Of one kind in one run; the next run goes on."""


async def purge_is_due(session: AsyncSession, settings: RetentionSettings, now: float) -> bool:
    """Whether the last purge is as long ago as the settings say."""
    last = [row.last_run_at for row in await rows.list_retention(session)]
    return not last or min(last) + settings.every_seconds <= now


async def purge(database: Database, store: Path, settings: RetentionSettings, now: float) -> dict[str, int]:
    """Delete what is too old, and remember how much of each kind that was."""
    deleted = {
        "completions": await _purge_completions(database, settings, settings.completions_days, now, voted=False),
        "voted_completions": await _purge_completions(
            database, settings, settings.voted_completions_days, now, voted=True
        ),
        "datasets": await _purge_datasets(database, store, settings, now),
    }
    for kind, (table, column, seconds) in _simple_kinds(settings).items():
        deleted[kind] = await _purge_table(database, settings, table, column, now - seconds) if seconds else 0
    async with database.write("relaxed") as session:
        for kind, count in deleted.items():
            await rows.note_purge(session, kind, count, now)
    return deleted


def kept_seconds(settings: RetentionSettings) -> dict[str, float]:
    """How long records of each kind are kept; 0: for good."""
    days = {
        "completions": settings.completions_days,
        "voted_completions": settings.voted_completions_days,
        "datasets": settings.datasets_days,
    }
    simple = {kind: seconds for kind, (_, _, seconds) in _simple_kinds(settings).items()}
    return {kind: number * DAY_SECONDS for kind, number in days.items()} | simple


def _simple_kinds(settings: RetentionSettings) -> dict[str, tuple[str, str, float]]:
    """Kinds that are a table and a time in it: table, column, seconds."""
    return {"audit": ("audit_entry", "at", settings.audit_days * DAY_SECONDS)}


async def _purge_completions(
    database: Database, settings: RetentionSettings, days: float, now: float, *, voted: bool
) -> int:
    if not days:
        return 0
    async with database.read() as session:
        projects = await rows.project_ids(session)
    before, deleted = now - days * DAY_SECONDS, 0
    for project in projects:
        behind = (float("-inf"), "")
        for _ in range(MAX_BATCHES):
            async with database.write("relaxed") as session:
                found = await rows.old_completions(
                    session, project, behind, before, voted=voted, limit=settings.batch_rows
                )
                deleted += await rows.delete_completions(session, [id_ for _, id_ in found])
            if len(found) < settings.batch_rows:
                break
            behind = found[-1]
    return deleted


async def _purge_datasets(database: Database, store: Path, settings: RetentionSettings, now: float) -> int:
    if not settings.datasets_days:
        return 0
    async with database.write("relaxed") as session:
        await rows.mark_unused_datasets(session, now)
        outlived = await rows.outlived_datasets(session, now - settings.datasets_days * DAY_SECONDS)
    for dataset in outlived:
        await asyncio.to_thread(dataset_files.remove, store / dataset.location)
        async with database.write("relaxed") as session:
            (await session.get_one(Dataset, dataset.id)).removed_at = now
    return len(outlived)


async def _purge_table(database: Database, settings: RetentionSettings, table: str, column: str, before: float) -> int:
    deleted = 0
    for _ in range(MAX_BATCHES):
        async with database.write("relaxed") as session:
            found = await rows.delete_older(session, Table.metadata.tables[table], column, before, settings.batch_rows)
        deleted += found
        if found < settings.batch_rows:
            break
    return deleted


async def retention_view(session: AsyncSession, settings: RetentionSettings) -> dict[str, Any]:
    """How long each kind is kept, and what was deleted when."""
    known = {row.kind: row for row in await rows.list_retention(session)}
    kinds = []
    for kind, seconds in kept_seconds(settings).items():
        row = known.get(kind)
        kinds.append(
            {
                "kind": kind,
                "kept_seconds": int(seconds) or None,
                "last_run_at": None if row is None else int(row.last_run_at),
                "last_deleted": 0 if row is None else row.last_deleted,
                "deleted": 0 if row is None else row.deleted,
            }
        )
    return {"object": "retention", "every_seconds": settings.every_seconds, "data": kinds}
