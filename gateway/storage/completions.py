"""Completions as rows, and the recorder that writes them in group commits before an answer's last byte leaves."""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import AlignwayError
from gateway.storage.database import Database
from gateway.storage.group_commit import GroupCommit
from gateway.storage.tables import Completion

RECORD_SECONDS = 2.0
"""An answer waits this long for its record; then it is sent without."""

log = structlog.get_logger(__name__)


class CompletionRecorder:
    """Writes completions with `relaxed` durability: safe against kill -9, power-safe with the next vote."""

    def __init__(self, database: Database) -> None:
        self._commits = GroupCommit(database, "relaxed")
        self._outstanding: set[asyncio.Task[bool]] = set()

    def begin(self, columns: Callable[[], dict[str, Any]]) -> asyncio.Task[bool]:
        """Record the row that `columns` makes, in a task of its own that outlives the request; see `record`.

        Wait for it with `asyncio.shield`: the caller's cancellation is none of the record.
        """
        task = asyncio.create_task(self.record(columns))
        self._outstanding.add(task)
        task.add_done_callback(self._outstanding.discard)
        return task

    async def record(self, columns: Callable[[], dict[str, Any]]) -> bool:
        """Commit a completion, visible to every worker on return; False if that did not work in time."""
        try:
            row = _storable(columns())

            async def write(session: AsyncSession) -> None:
                await session.execute(insert(Completion).values(**row))

            async with asyncio.timeout(RECORD_SECONDS):
                await self._commits.submit(write)
        except (TimeoutError, AlignwayError):
            return False
        except Exception as error:
            # Whatever it was, the answer is sent. The error's text may quote users' words: its type must do.
            log.error("completion_not_recorded", error=type(error).__name__)
            return False
        return True

    async def close(self) -> None:
        """Commit what is pending."""
        while self._outstanding:
            await asyncio.wait(self._outstanding)
        await self._commits.close()


def _storable(value: Any) -> Any:
    """The value as JSON, with NUL characters replaced: PostgreSQL cannot store them, and they say nothing."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
