"""The two ways to commit many completions at once: a thread over SQLite, a connection of its own to PostgreSQL.

Know how to write; know nothing of what is written, nor of who waits.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol

import asyncpg
import structlog

from gateway.storage.driver import driver_arguments

TABLE = "completion"
MAX_GROUP = 64
GATHER_SECONDS = 0.002
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


class Waiting(Protocol):
    """A queue; None in it means that nothing more comes."""

    def empty(self) -> bool:
        """Whether nothing waits."""

    def get_nowait(self) -> HasRow | None:
        """What waits longest."""


def take_group(first: HasRow, waiting: Waiting) -> tuple[list[HasRow], bool]:
    """The first and whatever waits behind it, to be committed together; and whether nothing comes after them."""
    group = [first]
    while len(group) < MAX_GROUP and not waiting.empty():
        following = waiting.get_nowait()
        if following is None:
            return group, True
        group.append(following)
    return group, False


class SqliteWriter:
    """A thread with a connection of its own."""

    def __init__(self, url: str, columns: Sequence[str], settle: Settle) -> None:
        """`settle` is called in the event loop that runs now."""
        self._path = str(driver_arguments(url)[0][0])
        self._columns = tuple(columns)
        self._inserts: dict[int, str] = {}
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
        crowd = last = False
        while not last and (first := self._queue.get()) is not None:
            if crowd:
                time.sleep(GATHER_SECONDS)
            group, last = take_group(first, self._queue)
            crowd = len(group) > 1
            committed = self._commit(group)
            if committed is None:
                for entry in group:
                    self._loop.call_soon_threadsafe(self._settle, [entry], bool(self._commit([entry])))
            else:
                self._loop.call_soon_threadsafe(self._settle, group, committed)
        if self._connection is not None:
            self._connection.close()

    def _commit(self, group: Sequence[HasRow]) -> bool | None:
        """Whether it worked; None: a row is at fault, not the database."""
        try:
            # One statement is one transaction, and one time in which the interpreter is free for others.
            self._connected().execute(self._insert(len(group)), list(chain.from_iterable(entry.row for entry in group)))
        except Exception as error:
            _report(error, group)
            return False if isinstance(error, sqlite3.OperationalError) else None
        return True

    def _insert(self, rows: int) -> str:
        if rows not in self._inserts:
            marks = f"({', '.join('?' for _ in self._columns)})"
            values = ", ".join(marks for _ in range(rows))
            self._inserts[rows] = f"INSERT INTO {TABLE} ({', '.join(self._columns)}) VALUES {values}"
        return self._inserts[rows]

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
        last = False
        while not last and (first := await self._queue.get()) is not None:
            group, last = take_group(first, self._queue)
            committed = await self._commit(group)
            if committed is None:
                for entry in group:
                    self._settle([entry], bool(await self._commit([entry])))
            else:
                self._settle(group, committed)
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
