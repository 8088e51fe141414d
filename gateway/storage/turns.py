"""Writers of one SQLite file take turns in the order in which they came.

SQLite itself lets waiting writers try again after pauses of up to a tenth of a second, and whoever wakes first wins:
with several workers, some would wait a second while others write again and again. A lock on a file beside the database
is handed on by the kernel as soon as it is free, and is gone with the process that held it.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from gateway.errors import DatabaseUnavailable

WAITING_AT_ONCE = 32
"""Transactions of one process that wait for their turn in the kernel; more wait before it."""


class Turns:
    """The queue of writers of one database file, over all processes of this machine."""

    def __init__(self, path: str, wait_seconds: float) -> None:
        """`path` is the lock's file, made when it is first needed."""
        self._path, self._wait_seconds = path, wait_seconds
        self._threads: ThreadPoolExecutor | None = None

    @asynccontextmanager
    async def mine(self) -> AsyncIterator[None]:
        """The block is run by nobody else meanwhile. Raises `DatabaseUnavailable` if that takes too long."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await self._queue(handle)
        try:
            yield
        finally:
            os.close(handle)

    async def _queue(self, handle: int) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(WAITING_AT_ONCE, thread_name_prefix="write-turn")
        turn = self._threads.submit(fcntl.flock, handle, fcntl.LOCK_EX)
        try:
            async with asyncio.timeout(self._wait_seconds):  # `wait_for` of Python 3.11 can swallow a cancellation
                await asyncio.shield(asyncio.wrap_future(turn))
        except BaseException as error:
            turn.add_done_callback(lambda _: os.close(handle))  # not before: its number may be given out again
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailable(
                    "Another process has been writing to the database for long; nothing was written. Try again in a "
                    "moment."
                ) from None
            raise

    def close(self) -> None:
        """Let go of the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
