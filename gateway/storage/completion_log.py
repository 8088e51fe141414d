"""Records completions before their answers end: whatever waits is written in one commit, and each caller is told.

Commits are `relaxed` (see `database.py`): safe against kill -9, and visible to every worker once told. This is on the
path of every answer, so rows go to the driver as they are, past SQLAlchemy.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from sqlalchemy import make_url

from gateway.storage.completion_writers import Prepare, Settle, SqliteWriter, Writer

RECORD_SECONDS = 2.0
"""An answer waits this long for its record; then it is sent without."""
MAX_WAITING_BYTES = 64 << 20
"""Text of records that wait for a database that does not answer; beyond this, answers are sent at once."""


log = structlog.get_logger(__name__)


class CompletionRow(NamedTuple):
    """A completion as columns; those that hold JSON are JSON text."""

    id: str
    project_id: str
    key_id: str
    alias: str
    release_id: str
    status: str
    messages: str
    parameters: str
    choices: str
    usage: str
    end_user_hash: str | None
    created_at: float
    first_chunk_seconds: float | None
    total_seconds: float
    call_metadata: str


class Entry:
    """A row that waits, and whom to tell."""

    __slots__ = ("deadline", "done", "row", "size")

    def __init__(self, row: CompletionRow, done: Callable[[bool], None], deadline: float) -> None:
        self.row = row
        self.done: Callable[[bool], None] | None = done
        self.deadline = deadline
        self.size = len(row.messages) + len(row.choices)

    def tell(self, recorded: bool) -> None:
        """Tell whoever waits, once."""
        done, self.done = self.done, None
        if done is None:
            return
        try:
            done(recorded)
        except Exception as error:  # the others of the group are told all the same
            log.error("unexpected_error", exc_info=error)


class CompletionLog:
    """The records of one gateway worker, made within a running event loop."""

    def __init__(self, url: str, prepare: Callable[[CompletionRow], CompletionRow] | None = None) -> None:
        """`prepare` makes of each row what is to be stored, off the event loop; a row for which it raises is lost."""
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._writer = _writer(url, self._settle, prepare)

    def write(self, row: CompletionRow, done: Callable[[bool], None]) -> None:
        """Commit a row; `done` is called with whether that worked, in this event loop, within `RECORD_SECONDS`.

        A row whose time ran out may still be committed later.
        """
        entry = Entry(row, done, self._loop.time() + RECORD_SECONDS)
        if self._waiting_bytes + entry.size > MAX_WAITING_BYTES:
            entry.tell(False)
            return
        self._waiting.append(entry)
        self._waiting_bytes += entry.size
        if self._expiry is None:
            self._expiry = self._loop.call_at(entry.deadline, self._expire)
        self._writer.put(entry)

    async def close(self) -> None:
        """Commit what is pending."""
        await self._writer.close()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _settle(self, entries: Sequence[Entry], recorded: bool) -> None:
        for entry in entries:
            self._waiting_bytes -= entry.size
            entry.tell(recorded)
        waiting = self._waiting
        while waiting and waiting[0].done is None:  # let go of their texts
            waiting.popleft()

    def _expire(self) -> None:
        now, waiting = self._loop.time(), self._waiting
        while waiting and (waiting[0].done is None or waiting[0].deadline <= now):
            waiting.popleft().tell(False)
        self._expiry = self._loop.call_at(waiting[0].deadline, self._expire) if waiting else None


def _writer(url: str, settle: Settle, prepare: Prepare | None) -> Writer:
    if make_url(url).get_backend_name() == "sqlite":
        return SqliteWriter(url, CompletionRow._fields, settle, prepare)
    from gateway.storage.completion_postgres import PostgresWriter

    return PostgresWriter(url, CompletionRow._fields, settle, prepare)
