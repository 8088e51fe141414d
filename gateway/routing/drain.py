"""The end of the time to drain: whatever still answers is told to end, and says so to its client."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from gateway.errors import Unavailable


class ServerShuttingDown(Unavailable):
    """The time to drain is over; another worker, or this one started again, will answer."""

    code = "server_shutting_down"

    def __init__(self) -> None:
        super().__init__("The server is shutting down and could not finish this answer in time. Ask again.")


class Answering(Protocol):
    """Something that answers a client."""

    def end_now(self) -> None:
        """End at once, in words."""


class Drain:
    """Whatever is answering a client."""

    def __init__(self) -> None:
        self.over = False
        self._answering: set[Answering] = set()
        self._at_end: list[Callable[[], None]] = []

    def at_end(self, do: Callable[[], None]) -> None:
        """Have something done, too, when the time is over."""
        self._at_end.append(do)

    def add(self, answering: Answering) -> None:
        """It begins to answer. Raises `ServerShuttingDown` if it is too late for that."""
        if self.over:
            raise ServerShuttingDown
        self._answering.add(answering)

    def discard(self, answering: Answering) -> None:
        """It has ended."""
        self._answering.discard(answering)

    def end(self) -> None:
        """The time is over: end every answer that is still open."""
        self.over = True
        for do in self._at_end:
            do()
        for answering in list(self._answering):
            answering.end_now()

    @contextmanager
    def in_task(self) -> Iterator[None]:
        """Around the work of an answer in a task: `ServerShuttingDown` is raised in it when the time is over."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("answers are awaited in tasks")
        answering = _InTask(task)
        self.add(answering)
        try:
            yield
        except asyncio.CancelledError as error:
            if not answering.ended:
                raise
            task.uncancel()
            raise ServerShuttingDown from error
        finally:
            self.discard(answering)


class _InTask:
    """Answers in a task."""

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task
        self.ended = False

    def end_now(self) -> None:
        self.ended = True
        self._task.cancel()
