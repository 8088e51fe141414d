"""Reads one counter many times a second at next to no cost: past SQLAlchemy, on a connection kept for it."""

import asyncio
import sqlite3
from typing import Any

import asyncpg
from sqlalchemy import make_url

from gateway.errors import DatabaseUnavailable
from gateway.storage.driver import driver_arguments

SECONDS = 2.0
SQL = "SELECT value FROM counter WHERE name = "


class CounterGlance:
    """A look at one counter, over and over."""

    def __init__(self, url: str, name: str) -> None:
        positional, named = driver_arguments(url)
        self._name = name
        self._path = str(positional[0]) if make_url(url).get_backend_name() == "sqlite" else None
        self._arguments: dict[str, Any] = named
        self._sqlite: sqlite3.Connection | None = None
        self._postgres: asyncpg.Connection | None = None

    async def value(self) -> int:
        """The counter as committed by now; 0 if there is none. Raises `DatabaseUnavailable`."""
        try:
            if self._path is not None:
                return self._from_sqlite(self._path)
            async with asyncio.timeout(SECONDS):
                return await self._from_postgres()
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

    def _from_sqlite(self, path: str) -> int:
        # In the event loop: it reads one page that is in memory, and with a write-ahead log it waits for nobody.
        if self._sqlite is None:
            self._sqlite = sqlite3.connect(path, timeout=0, isolation_level=None)
        row = self._sqlite.execute(SQL + "?", (self._name,)).fetchone()
        return 0 if row is None else int(row[0])

    async def _from_postgres(self) -> int:
        if self._postgres is None or self._postgres.is_closed():
            self._postgres = await asyncpg.connect(**self._arguments)
        return int(await self._postgres.fetchval(SQL + "$1", self._name) or 0)
