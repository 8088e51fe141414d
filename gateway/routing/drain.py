"""The end of the time to drain: whatever still answers is told to end, and says so to its client."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Unavailable


class ServerShuttingDown(Unavailable):
    """The time to drain is over; another worker, or this one started again, will answer."""

    code = "server_shutting_down"

    def __init__(self) -> None:
        super().__init__("The server is shutting down and could not finish this answer in time. Ask again.")


class Drain:
    """The tasks that are answering a client."""

    def __init__(self) -> None:
        self.over = False
        self._answering: set[asyncio.Task[object]] = set()

    def end(self) -> None:
        """The time is over: end every answer that is still open."""
        self.over = True
        for task in list(self._answering):
            task.cancel()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Around the work of an answer: `ServerShuttingDown` is raised in it when the time to drain is over."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("answers are written in tasks")
        if self.over:
            raise ServerShuttingDown
        self._answering.add(task)
        try:
            yield
        except asyncio.CancelledError as error:
            if not self.over:
                raise
            task.uncancel()
            raise ServerShuttingDown from error
        finally:
            self._answering.discard(task)
