"""Statements of fixed words on a session's connection, within its transaction, past what SQLAlchemy makes of them.

A statement costs SQLAlchemy a few tenths of a millisecond and SQLite's thread four visits; here it is one visit. For
what is asked thousands of times a second; everything else goes the usual way. Errors are SQLAlchemy's own.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

if TYPE_CHECKING:  # whoever trains without a database does without its driver
    import aiosqlite


class Spoken(NamedTuple):
    """One statement in the words of either database; its arguments are lists: JSON to SQLite, PostgreSQL's arrays."""

    sqlite: str
    postgresql: str


async def fetch(session: AsyncSession, spoken: Spoken, *lists: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Rows as the driver gives them: JSON out of SQLite is text."""
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        return (await connection.exec_driver_sql(spoken.postgresql, lists)).all()
    sqlite = await _sqlite(connection)
    try:
        return await sqlite.execute_fetchall(spoken.sqlite, [msgspec.json.encode(each).decode() for each in lists])
    except sqlite3.Error as error:
        raise _translated(error) from error


async def insert_on_sqlite(session: AsyncSession, inserts: Iterable[tuple[str, Sequence[Sequence[Any]]]]) -> None:
    """Run each statement for each of its rows."""
    sqlite = await _sqlite(await session.connection())
    try:
        for statement, rows in inserts:
            if rows:
                await sqlite.executemany(statement, rows)
    except sqlite3.Error as error:
        raise _translated(error) from error


async def _sqlite(connection: AsyncConnection) -> "aiosqlite.Connection":
    return cast("aiosqlite.Connection", (await connection.get_raw_connection()).driver_connection)


def _translated(error: sqlite3.Error) -> BaseException:
    return DBAPIError.instance("", None, error, sqlite3.Error)
