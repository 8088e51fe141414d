"""Reads a few rows many times a second at next to no cost: past SQLAlchemy, on a connection kept for it.

Rows come as the driver gives them (JSON as text, SQLite's booleans as numbers): good for telling whether anything
changed, which is what most looks find out has not.
"""

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy import Select, make_url

from gateway.errors import DatabaseUnavailable
from gateway.storage.driver import driver_arguments

SECONDS = 2.0
CACHE_KIB = 256

Rows = list[tuple[Any, ...]]


class Glance:
    """Looks at the same few rows, over and over."""

    def __init__(self, url: str, looks: Mapping[str, Select[Any]]) -> None:
        """`looks`: statements by name; they should find few rows by an index, or read small tables."""
        positional, named = driver_arguments(url)
        dialect = make_url(url).get_dialect()()
        compiled = {name: look.compile(dialect=dialect) for name, look in looks.items()}
        self._looks = {name: (look.string, look.params, look.positiontup or []) for name, look in compiled.items()}
        self._path = str(positional[0]) if dialect.name == "sqlite" else None
        self._arguments: dict[str, Any] = named
        self._sqlite: sqlite3.Connection | None = None
        self._postgres: asyncpg.Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def rows(self, name: str, **values: Any) -> Rows:
        """What is committed by now. Raises `DatabaseUnavailable`."""
        sql, known, order = self._looks[name]
        arguments = [values[each] if each in values else known[each] for each in order]
        try:
            if self._path is not None:
                return self._from_sqlite(self._path, sql, arguments)
            async with asyncio.timeout(SECONDS), self._one_at_a_time:
                return await self._from_postgres(sql, arguments)
        except (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            await self.close()
            raise DatabaseUnavailable(f"The database cannot be read right now. ({type(error).__name__})") from error

    async def close(self) -> None:
        """Close the connection; the next look opens another."""
        sqlite, self._sqlite = self._sqlite, None
        if sqlite is not None:
            sqlite.close()
        postgres, self._postgres = self._postgres, None
        if postgres is not None:
            postgres.terminate()

    def _from_sqlite(self, path: str, sql: str, arguments: list[Any]) -> Rows:
        # In the event loop: it reads pages that are in memory, and with a write-ahead log it waits for nobody.
        if self._sqlite is None:
            self._sqlite = sqlite3.connect(path, timeout=0, isolation_level=None)
            self._sqlite.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        return self._sqlite.execute(sql, arguments).fetchall()

    async def _from_postgres(self, sql: str, arguments: list[Any]) -> Rows:
        if self._postgres is None or self._postgres.is_closed():
            self._postgres = await asyncpg.connect(**self._arguments)
        return [tuple(row) for row in await self._postgres.fetch(sql, *arguments)]
