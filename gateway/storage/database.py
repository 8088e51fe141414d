"""Connections, transactions and durability. Knows the two databases apart; knows nothing of what is stored.

Two write paths over one database: `durable` commits survive power loss (votes, desired state), `relaxed` commits
survive kill -9 and are made power-safe by the next durable commit (completions: SQLite's log and PostgreSQL's are
both written in order).
"""

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Literal

from sqlalchemy import Select, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from gateway.errors import DatabaseUnavailable
from gateway.storage.glance import Glance, make_glance
from gateway.storage.turns import Turns

Durability = Literal["durable", "relaxed"]
SQLITE_BUSY_SECONDS = 10.0
POSTGRES_CONNECT_SECONDS = 5.0
POSTGRES_COMMAND_SECONDS = 30.0
KEPT_PLANS = {"enable_seqscan": "off", "jit": "off"}
"""Connections keep plans of what they are asked often. One made while a table was small would read all of it, and go on
doing so while the table grows: these go by index from the beginning."""

_TROUBLE = {"08", "40", "53", "55", "57", "58", "XX"}
"""Classes of PostgreSQL error that are no fault of the statement: connection, conflict, disk or memory full, locks,
shutdown, broken storage."""
_LOST_TO_ANOTHER = {"40001", "40P01"}


class _SqliteConnection(sqlite3.Connection):
    """Lets go of the file's lock when it is closed.

    A task that is cancelled within a transaction leaves a cursor in its traceback, and SQLite keeps a closed connection
    whole, its lock included, as long as one of its cursors lives: until Python next looks for cycles.
    """

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()
        super().close()


class Database:
    """One database by URL: `sqlite+aiosqlite:///FILE` or `postgresql+asyncpg://...`."""

    def __init__(self, url: str, wait_seconds: float | None = None) -> None:
        """`wait_seconds` bounds how long a statement waits for a lock or an answer; default: by kind of database."""
        self.url = url
        self._engines: dict[Durability, AsyncEngine] = {
            "durable": _create_engine(url, "durable", wait_seconds),
            "relaxed": _create_engine(url, "relaxed", wait_seconds),
        }
        self._turns = _turns_at(url, wait_seconds or SQLITE_BUSY_SECONDS)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return make_url(self.url).get_backend_name()

    def engine(self, durability: Durability = "durable") -> AsyncEngine:
        """The underlying engine, for migrations and bulk work."""
        return self._engines[durability]

    @asynccontextmanager
    async def write(self, durability: Durability = "durable") -> AsyncIterator[AsyncSession]:
        """A transaction that may write: committed on leaving the block, rolled back on an exception."""
        async with self._session(durability, read_only=False) as session:
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A transaction that only reads; on SQLite it waits for no writer."""
        async with self._session("relaxed", read_only=True) as session:
            yield session

    @asynccontextmanager
    async def _session(self, durability: Durability, read_only: bool) -> AsyncIterator[AsyncSession]:
        engine = self._engines[durability].execution_options(alignway_read_only=read_only)
        try:
            async with (
                nullcontext() if read_only or self._turns is None else self._turns.mine(),
                AsyncSession(engine, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session
        except Exception as error:
            if not is_database_trouble(error) or lost_to_another(error):
                raise
            # The whole text of a DBAPIError quotes the statement's parameters, which may be users' words.
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise DatabaseUnavailable(
                f"The database cannot be used right now; nothing was written. Try again in a moment. ({reason})"
            ) from error

    def glance(self, looks: Mapping[str, Select[Any]]) -> Glance:
        """For looking at the same few rows over and over, on a connection of its own."""
        return make_glance(self.url, looks)

    async def close(self) -> None:
        """Close every connection."""
        for engine in self._engines.values():
            await engine.dispose()
        if self._turns is not None:
            self._turns.close()


def _turns_at(url: str, wait_seconds: float) -> Turns | None:
    """The queue of writers of a SQLite file; PostgreSQL has its own."""
    file = make_url(url).database if make_url(url).get_backend_name() == "sqlite" else None
    return Turns(f"{file}-turn", wait_seconds) if file and file != ":memory:" else None


def _create_engine(url: str, durability: Durability, wait_seconds: float | None) -> AsyncEngine:
    if make_url(url).get_backend_name() == "sqlite":
        return _create_sqlite_engine(url, durability, wait_seconds or SQLITE_BUSY_SECONDS)
    arguments = {
        "server_settings": {"synchronous_commit": "on"} | KEPT_PLANS
        if durability == "durable"
        else {"synchronous_commit": "off"},
        "timeout": min(wait_seconds or POSTGRES_CONNECT_SECONDS, POSTGRES_CONNECT_SECONDS),
        "command_timeout": wait_seconds or POSTGRES_COMMAND_SECONDS,
    }
    engine = create_async_engine(url, pool_size=5, max_overflow=10, pool_pre_ping=True, connect_args=arguments)
    # Many rows in one statement, not a statement for each: the database is asked once, and its triggers run once.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    return engine


def _create_sqlite_engine(url: str, durability: Durability, busy_seconds: float) -> AsyncEngine:
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=5,
        max_overflow=5,
        connect_args={"timeout": busy_seconds, "factory": _SqliteConnection},
    )
    synchronous = "FULL" if durability == "durable" else "NORMAL"

    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        # A writer takes its lock at once: upgrading a read lock later could fail with "database is locked".
        read_only = connection.get_execution_options().get("alignway_read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", begin)
    return engine


def is_database_trouble(error: BaseException) -> bool:
    """Whether the database failed, rather than the statement: nothing was written, and trying again may help."""
    if isinstance(error, OperationalError | OSError | PoolTimeoutError):
        return True
    return isinstance(error, DBAPIError) and (error.connection_invalidated or (_sqlstate(error) or "")[:2] in _TROUBLE)


def lost_to_another(error: BaseException) -> bool:
    """Whether a transaction failed only because another one was in its way (a deadlock on PostgreSQL)."""
    return isinstance(error, DBAPIError) and _sqlstate(error) in _LOST_TO_ANOTHER


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
