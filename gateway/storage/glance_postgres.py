"""Glances at PostgreSQL."""

import asyncio
from typing import Any

import asyncpg

from gateway.storage.driver import driver_arguments
from gateway.storage.glance import Glance, Looks, Rows, cannot_be_read

SECONDS = 2.0


class PostgresGlance(Glance):
    """One look at a time, on one connection."""

    def __init__(self, url: str, looks: Looks) -> None:
        super().__init__(url, looks)
        self._arguments = driver_arguments(url)[1]
        self._connection: asyncpg.Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def _fetch(self, sql: str, arguments: list[Any]) -> Rows:
        try:
            async with asyncio.timeout(SECONDS), self._one_at_a_time:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(**self._arguments)
                return [tuple(row) for row in await self._connection.fetch(sql, *arguments)]
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            await self.close()
            raise cannot_be_read(error) from error

    async def close(self) -> None:
        """Close the connection; the next look opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
