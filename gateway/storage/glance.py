"""Reads a few rows many times a second at next to no cost: past SQLAlchemy, on a connection kept for it.

Rows come as the driver gives them (JSON as text, SQLite's booleans as numbers): good for telling whether anything
changed, which is what most looks find out has not.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, make_url

from gateway.errors import DatabaseUnavailable
from gateway.storage.driver import driver_arguments

CACHE_KIB = 256

Rows = list[tuple[Any, ...]]
Looks = Mapping[str, Select[Any]]


class Glance(ABC):
    """Looks at the same few rows, over and over."""

    def __init__(self, url: str, looks: Looks) -> None:
        dialect = make_url(url).get_dialect()()
        compiled = {name: look.compile(dialect=dialect) for name, look in looks.items()}
        self._looks = {name: (look.string, look.params, look.positiontup or []) for name, look in compiled.items()}

    async def rows(self, name: str, **values: Any) -> Rows:
        """What is committed by now. Raises `DatabaseUnavailable`."""
        sql, known, order = self._looks[name]
        return await self._fetch(sql, [values[each] if each in values else known[each] for each in order])

    @abstractmethod
    async def _fetch(self, sql: str, arguments: list[Any]) -> Rows: ...

    @abstractmethod
    async def close(self) -> None:
        """Close the connection; the next look opens another."""


class SqliteGlance(Glance):
    """In the event loop: it reads pages that are in memory, and with a write-ahead log it waits for nobody."""

    def __init__(self, url: str, looks: Looks) -> None:
        super().__init__(url, looks)
        self._path = str(driver_arguments(url)[0][0])
        self._connection: sqlite3.Connection | None = None

    async def _fetch(self, sql: str, arguments: list[Any]) -> Rows:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
                self._connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            return self._connection.execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            await self.close()
            raise cannot_be_read(error) from error

    async def close(self) -> None:
        """Close the connection; the next look opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def make_glance(url: str, looks: Looks) -> Glance:
    """`looks`: statements by name; they should find few rows by an index, or read small tables."""
    if make_url(url).get_backend_name() == "sqlite":
        return SqliteGlance(url, looks)
    from gateway.storage.glance_postgres import PostgresGlance  # whoever uses SQLite does not load the driver

    return PostgresGlance(url, looks)


def cannot_be_read(error: Exception) -> DatabaseUnavailable:
    """The error that a driver's error means."""
    return DatabaseUnavailable(f"The database cannot be read right now. ({type(error).__name__})")
