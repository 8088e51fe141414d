"""The two ways to commit many completions at once: a thread over SQLite, a connection of its own to PostgreSQL.

Know how to write; know nothing of what is written, nor of who waits.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import asyncpg
import structlog

from gateway.storage.driver import driver_arguments

TABLE = "completion"
MAX_GROUP = 256
GATHER_SECONDS = 0.001
"""While answers end in crowds, a commit waits this long for company; a lone answer is committed at once."""
SQLITE_BUSY_SECONDS = 10.0
SQLITE_CACHE_KIB = 512
"""Rows are added at the ends of tables and indexes: these few pages are all that is looked at again."""
POSTGRES_SECONDS = 5.0

log = structlog.get_logger(__name__)


class HasRow(Protocol):
    """Something with a row to write."""

    @property
    def row(self) -> tuple[Any, ...]:
        """The values of the columns."""


Settle = Callable[[Sequence[Any], bool], None]


class SqliteWriter:
    """A thread with a connection of its own."""

    def __init__(self, url: str, columns: Sequence[str], settle: Settle) -> None:
        """`settle` is called in the event loop that runs now."""
        self._path = str(driver_arguments(url)[0][0])
        marks = ", ".join("?" for _ in columns)
        self._insert = f"INSERT INTO {TABLE} ({', '.join(columns)}) VALUES ({marks})"
        self._settle, self._loop = settle, asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[HasRow | None] = queue.SimpleQueue()
        self.put = self._queue.put
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._work, name="completion-log", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Commit what was put, and stop."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        crowd = False
        while (first := self._queue.get()) is not None:
            if crowd:
                time.sleep(GATHER_SECONDS)
            group, last = [first], False
            while len(group) < MAX_GROUP and not self._queue.empty():
                following = self._queue.get_nowait()
                if following is None:
                    last = True
                    break
                group.append(following)
            crowd = len(group) > 1
            committed = self._commit(group)
            if committed is None:
                for entry in group:
                    self._loop.call_soon_threadsafe(self._settle, [entry], bool(self._commit([entry])))
            else:
                self._loop.call_soon_threadsafe(self._settle, group, committed)
            if last:
                break
        if self._connection is not None:
            self._connection.close()

    def _commit(self, group: Sequence[HasRow]) -> bool | None:
        """Whether it worked; None: a row is at fault, not the database."""
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(self._insert, [entry.row for entry in group])
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except Exception as error:
            _report(error, group)
            return False if isinstance(error, sqlite3.OperationalError) else None
        return True

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=SQLITE_BUSY_SECONDS, isolation_level=None)
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(f"PRAGMA cache_size=-{SQLITE_CACHE_KIB}")
        return self._connection


class PostgresWriter:
    """A task with a connection of its own, opened again whenever it is lost."""

    def __init__(self, url: str, columns: Sequence[str], settle: Settle) -> None:
        self._arguments = driver_arguments(url)[1]
        self._columns, self._settle = tuple(columns), settle
        self._queue: asyncio.Queue[HasRow | None] = asyncio.Queue()
        self.put = self._queue.put_nowait
        self._connection: asyncpg.Connection | None = None
        self._task = asyncio.create_task(self._work(), name="completion-log")

    async def close(self) -> None:
        """Commit what was put, and stop."""
        self._queue.put_nowait(None)
        await self._task

    async def _work(self) -> None:
        while (first := await self._queue.get()) is not None:
            group, last = [first], False
            while len(group) < MAX_GROUP and not self._queue.empty():
                following = self._queue.get_nowait()
                if following is None:
                    last = True
                    break
                group.append(following)
            committed = await self._commit(group)
            if committed is None:
                for entry in group:
                    self._settle([entry], bool(await self._commit([entry])))
            else:
                self._settle(group, committed)
            if last:
                break
        await self._disconnect()

    async def _commit(self, group: Sequence[HasRow]) -> bool | None:
        """Whether it worked; None: a row is at fault, not the database."""
        try:
            async with asyncio.timeout(POSTGRES_SECONDS):
                connection = await self._connected()
                await connection.copy_records_to_table(
                    TABLE, records=[entry.row for entry in group], columns=self._columns
                )
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
            _report(error, group)
            return None
        except Exception as error:
            _report(error, group)
            await self._disconnect()
            return False
        return True

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            settings = {"synchronous_commit": "off"}
            self._connection = await asyncpg.connect(**self._arguments, server_settings=settings)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _report(error: Exception, group: Sequence[HasRow]) -> None:
    # The text of an error may quote users' words: its type must do.
    log.warning("completions_not_recorded", error=type(error).__name__, completions=len(group))
