"""One commit for many writes: whatever waits is written in one transaction, so that a slow disk is waited for once.

Each write has its own savepoint: one that fails takes back only itself. Writes of one kind may be made together, as a
batch with few statements; if that fails, the transaction begins anew and each is made alone. A caller hears of success
after the commit, never before it; a commit that fails is a failure of every write in it. Knows nothing of what is
written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import DatabaseUnavailable, Overloaded, Unavailable
from gateway.storage.database import Database, Durability, is_database_trouble, lost_to_another

T = TypeVar("T")
Item = TypeVar("Item")
Operation = Callable[[AsyncSession], Awaitable[T]]
Batch = Callable[[AsyncSession, Sequence[Item]], Awaitable[Sequence[T | Exception]]]
"""Makes several writes with few statements: for each its result, or an error that is its own and left nothing."""

ATTEMPTS = 4
"""How often a transaction that lost to another one (a deadlock on PostgreSQL) is run, in all."""
RETRY_SECONDS = 0.02
LINGER_SECONDS = 0.002
"""After a group of several, the next one waits this long for company. A write that comes alone never waits."""


@dataclass(frozen=True)
class _Task:
    batch: Batch[Any, Any]
    item: Any


@dataclass(frozen=True)
class _Waiting(Generic[T]):
    task: _Task
    outcome: asyncio.Future[T]


@dataclass(frozen=True)
class _Failed:
    error: Exception


class GroupCommit:
    """A queue of writes and the task that commits them in groups."""

    def __init__(
        self, database: Database, durability: Durability, *, max_waiting: int = 10_000, max_group: int = 200
    ) -> None:
        self._database = database
        self._durability = durability
        self._max_waiting = max_waiting
        self._max_group = max_group
        self._waiting: asyncio.Queue[_Waiting[Any] | None] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, operation: Operation[T]) -> T:
        """Run `operation` in the next transaction and return its result once that is committed.

        The operation may be run again if its transaction lost to another, so it must do nothing but use its session.
        A caller that is cancelled while it waits takes its operation back, unless that has begun; to stop waiting
        and let it go on, use `asyncio.wait_for(asyncio.shield(commits.submit(operation)), seconds)`.
        """
        return await self.submit_to(_one_by_one, operation)

    async def submit_to(self, batch: Batch[Item, T], item: Item) -> T:
        """Make a write together with those of the next transaction that go to an equal `batch`; else as `submit`."""
        if self._closed:
            raise Unavailable("The server is shutting down; nothing was written. Try again in a moment.")
        if self._waiting.qsize() >= self._max_waiting:
            raise Overloaded("Too many writes are waiting for the database; nothing was written. Try again later.")
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name=f"group-commit-{self._durability}")
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Waiting(_Task(batch, item), outcome))
        return await outcome

    async def close(self) -> None:
        """Refuse new writes, commit those that wait, and stop."""
        if not self._closed:
            self._closed = True
            self._waiting.put_nowait(None)
        if self._worker is not None:
            await self._worker

    async def _work(self) -> None:
        alone = True
        while (first := await self._waiting.get()) is not None:
            if not alone:  # those who were just answered write again in a moment: one commit for all of them
                await asyncio.sleep(LINGER_SECONDS)
            group = [first]
            while len(group) < self._max_group and not self._waiting.empty():
                following = self._waiting.get_nowait()
                if following is None:
                    await self._settle(group)
                    return
                group.append(following)
            alone = len(group) == 1
            await self._settle(group)

    async def _settle(self, group: list[_Waiting[Any]]) -> None:
        group = [waiting for waiting in group if not waiting.outcome.done()]
        if not group:
            return
        outcomes: list[Any] = [_Failed(Unavailable("The server stopped before the write was confirmed; try again."))]
        outcomes *= len(group)  # what stands if this task is cancelled
        try:
            outcomes = await self._commit([waiting.task for waiting in group])
        except Exception as error:
            outcomes = [_Failed(_not_committed(error)) for _ in group]
        finally:
            for waiting, outcome in zip(group, outcomes, strict=True):
                _resolve(waiting.outcome, outcome)

    async def _commit(self, tasks: list[_Task]) -> list[Any]:
        attempt, together = 1, True
        while True:
            try:
                return await self._transaction(tasks, together)
            except _BatchFailed:
                together = False
                continue
            except DBAPIError as error:
                if not lost_to_another(error) or attempt == ATTEMPTS:
                    raise
            await asyncio.sleep(RETRY_SECONDS * attempt)
            attempt += 1

    async def _transaction(self, tasks: list[_Task], together: bool) -> list[Any]:
        by_batch: dict[Batch[Any, Any], list[int]] = {}
        for place, task in enumerate(tasks):
            by_batch.setdefault(task.batch, []).append(place)
        outcomes: list[Any] = [None] * len(tasks)
        async with self._database.write(self._durability) as session:
            for batch, places in by_batch.items():
                items = [tasks[place].item for place in places]
                if together and batch is not _one_by_one:
                    made = await _at_once(session, batch, items)
                else:
                    made = [await _in_savepoint(session, batch, item) for item in items]
                for place, outcome in zip(places, made, strict=True):
                    outcomes[place] = outcome
        return outcomes


class _BatchFailed(Exception):
    """The transaction is rolled back and begun anew with each write alone."""


async def _at_once(session: AsyncSession, batch: Batch[Any, Any], items: list[Any]) -> list[Any]:
    try:
        return [_failed_or(outcome) for outcome in await batch(session, items)]
    except Exception as error:
        if is_database_trouble(error):
            raise
        raise _BatchFailed from error


async def _one_by_one(session: AsyncSession, operations: Sequence[Operation[Any]]) -> list[Any]:
    return [await operation(session) for operation in operations]


async def _in_savepoint(session: AsyncSession, batch: Batch[Any, Any], item: Any) -> Any:
    try:
        async with session.begin_nested():
            [outcome] = await batch(session, [item])
            return _failed_or(outcome)
    except Exception as error:
        if is_database_trouble(error):
            raise
        return _Failed(error)


def _failed_or(outcome: Any) -> Any:
    return _Failed(outcome) if isinstance(outcome, Exception) else outcome


def _resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():  # the caller has left meanwhile
        return
    if isinstance(outcome, _Failed):
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome)


def _not_committed(error: Exception) -> DatabaseUnavailable:
    if isinstance(error, DatabaseUnavailable):
        return error
    # The whole text of a DBAPIError quotes the statement and its parameters, which are users' words.
    reason = error.orig if isinstance(error, DBAPIError) else error
    unavailable = DatabaseUnavailable(f"The database did not confirm the write; send it again in a moment. ({reason})")
    unavailable.__cause__ = error
    return unavailable
