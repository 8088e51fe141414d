"""Commits many completions at once to PostgreSQL. Apart, so that whoever uses SQLite does not load the driver."""

import asyncio
from collections.abc import Sequence

import asyncpg

from gateway.storage.completion_writers import TABLE, HasRow, Prepare, Settle, prepare_group, report_lost, take_group
from gateway.storage.driver import driver_arguments

POSTGRES_SECONDS = 5.0


class PostgresWriter:
    """A task with a connection of its own, opened again whenever it is lost."""

    def __init__(self, url: str, columns: Sequence[str], settle: Settle, prepare: Prepare | None) -> None:
        self._arguments = driver_arguments(url)[1]
        self._columns, self._settle, self._prepare = tuple(columns), settle, prepare
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
            if self._prepare is not None:
                group, bad = await asyncio.to_thread(prepare_group, group, self._prepare)
                self._settle(bad, False)
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
            report_lost(error, group)
            return None
        except Exception as error:
            report_lost(error, group)
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
