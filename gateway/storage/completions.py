"""Completions as rows, and the recorder that writes them in group commits before an answer's last byte leaves."""

import asyncio
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import AlignwayError
from gateway.storage.database import Database
from gateway.storage.group_commit import GroupCommit
from gateway.storage.tables import Completion

RECORD_SECONDS = 2.0
"""An answer waits this long for its record; then it is sent without."""


class CompletionRecorder:
    """Writes completions with `relaxed` durability: safe against kill -9, power-safe with the next vote."""

    def __init__(self, database: Database) -> None:
        self._commits = GroupCommit(database, "relaxed")

    async def record(self, columns: dict[str, Any]) -> bool:
        """Commit a completion, visible to every worker on return; False if that did not work in time."""

        async def write(session: AsyncSession) -> None:
            await session.execute(insert(Completion).values(**_storable(columns)))

        try:
            async with asyncio.timeout(RECORD_SECONDS):
                await self._commits.submit(write)
        except (TimeoutError, AlignwayError):
            return False
        return True

    async def close(self) -> None:
        """Commit what is pending."""
        await self._commits.close()


def _storable(value: Any) -> Any:
    """The value with NUL characters replaced: PostgreSQL's JSON cannot hold them, and they say nothing."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
