"""Commits many completions at once: what both databases share, and the thread that writes to SQLite.

Knows how to write; knows nothing of what is written, nor of who waits.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Protocol

import structlog

from gateway.storage.driver import driver_arguments

TABLE = "completion"
PIECES = (64, 32, 16, 8, 4, 2, 1)
"""So many rows go into one statement: few sizes, as each is a program that SQLite compiles and keeps."""
MAX_GROUP = PIECES[0]
GATHER_SECONDS = 0.002
"""While answers end in crowds, a commit waits this long for company; a lone answer is committed at once."""
SQLITE_BUSY_SECONDS = 10.0
SQLITE_CACHE_KIB = 512
"""Rows are added at the ends of tables and indexes: these few pages are all that is looked at again."""

log = structlog.get_logger(__name__)


class HasRow(Protocol):
    """Something with a row to write: the values of the columns."""

    row: Any


Settle = Callable[[Sequence[Any], bool], None]
Prepare = Callable[[Any], Any]
"""Makes of a row what is to be stored."""


class Writer(Protocol):
    """What commits completions."""

    @property
    def put(self) -> Callable[[HasRow], None]:
        """Commits a row soon, in the order of the calls."""

    async def close(self) -> None:
        """Commit what was put, and stop."""


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


def prepare_group(group: Sequence[HasRow], prepare: Prepare) -> tuple[list[HasRow], list[HasRow]]:
    """Prepare the rows of a group; those for which that worked, and those that must not be stored."""
    good: list[HasRow] = []
    bad: list[HasRow] = []
    for entry in group:
        try:
            entry.row = prepare(entry.row)
        except Exception as error:
            report_lost(error, [entry])
            bad.append(entry)
        else:
            good.append(entry)
    return good, bad


class SqliteWriter:
    """A thread with a connection of its own."""

    def __init__(self, url: str, columns: Sequence[str], settle: Settle, prepare: Prepare | None) -> None:
        """`settle` is called in the event loop that runs now."""
        self._path = str(driver_arguments(url)[0][0])
        marks = f"({', '.join('?' for _ in columns)})"
        head = f"INSERT INTO {TABLE} ({', '.join(columns)}) VALUES "
        # Many rows in one statement: while it runs, the interpreter is free for others.
        self._inserts = {rows: head + ", ".join([marks] * rows) for rows in PIECES}
        self._settle, self._loop, self._prepare = settle, asyncio.get_running_loop(), prepare
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
            if self._prepare is not None:
                group, bad = prepare_group(group, self._prepare)
                self._loop.call_soon_threadsafe(self._settle, bad, False)
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
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                for piece in _in_powers_of_two(group):
                    values = list(chain.from_iterable(entry.row for entry in piece))
                    connection.execute(self._inserts[len(piece)], values)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except Exception as error:
            report_lost(error, group)
            return False if isinstance(error, sqlite3.OperationalError) else None
        return True

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._path, timeout=SQLITE_BUSY_SECONDS, isolation_level=None, cached_statements=16
            )
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(f"PRAGMA cache_size=-{SQLITE_CACHE_KIB}")
        return self._connection


def _in_powers_of_two(group: Sequence[HasRow]) -> Iterator[Sequence[HasRow]]:
    done = 0
    while done < len(group):
        rows = next(size for size in PIECES if size <= len(group) - done)
        yield group[done : done + rows]
        done += rows


def report_lost(error: Exception, group: Sequence[HasRow]) -> None:
    """Say that a group was not written."""
    # The text of an error may quote users' words: its type must do.
    log.warning("completions_not_recorded", error=type(error).__name__, completions=len(group))
