"""An erasure killed with SIGKILL at any of its steps is taken up again and ends as if nothing had happened."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.datasets.pair_file import read_lineage
from gateway.privacy import dataset_files
from gateway.privacy.erasure import carry_out
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion, Dataset, Feedback
from gateway.storage.tables import ReleaseRow
from tests.gateway.privacy.conftest import Place

USERS = 40


def killed_at(step: int, url: str, store: Path, erasure_id: str) -> bool:
    """Carry an erasure out in a process of its own that kills itself at that step; whether it came so far."""
    child = os.fork()
    if child == 0:
        steps = count(1)

        def pass_step() -> None:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        kill_between(pass_step)
        try:
            asyncio.run(carry_out(Database(url), store, erasure_id))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def kill_between(pass_step: Callable[[], None]) -> None:
    """Every transaction has three steps: before it, before its commit, and after it; every change of files has two."""
    write = Database.write

    @asynccontextmanager
    async def stepped_write(database: Database, *arguments: Any) -> AsyncIterator[Any]:
        pass_step()
        async with write(database, *arguments) as session:
            yield session
            await session.flush()
            pass_step()
        pass_step()

    def stepped(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any) -> Any:
            pass_step()
            result = change(*arguments)
            pass_step()
            return result

        return changed

    Database.write = stepped_write  # type: ignore[method-assign]
    for name in ("rewrite_without", "_copy_without", "_card", "remove"):
        setattr(dataset_files, name, stepped(getattr(dataset_files, name)))


def test_an_erasure_killed_at_every_step_is_completed_by_the_next_process(database_url: str, tmp_path: Path) -> None:
    place = Place(Database(database_url), tmp_path / "store")
    users = [f"user-{number}" for number in range(USERS)]

    async def prepare() -> None:
        await place.prepare()
        for user in users:
            await place.chat_and_vote(user, f"is it safe, {user}?")
        await place.freeze("ds_first")
        await place.release("rel_1", "ds_first")
        await place.database.close()

    asyncio.run(prepare())
    for step, user in enumerate(users, start=1):
        erasure = asyncio.run(asked(place, user))
        came_so_far = killed_at(step, database_url, place.store, erasure)
        asyncio.run(check(place, erasure, left=USERS - step))
        if not came_so_far:
            break
    else:
        pytest.fail("there are more steps than users: raise USERS")
    assert step > 20


async def asked(place: Place, user: str) -> str:
    try:
        return (await place.request(user)).id
    finally:
        await place.database.close()


async def check(place: Place, erasure_id: str, left: int) -> None:
    """Resume; then only the others are there, in rows and in the one data set that is left."""
    try:
        done = await carry_out(place.database, place.store, erasure_id)
        assert done.counts | {"completion": 2, "feedback": 1, "feedback_pair": 1, "dataset": 1} == done.counts
        assert (done.receipt or {})["ids"] == 4
        assert len(await place.rows(Feedback)) == left
        assert len(await place.rows(Completion)) == 2 * left
        async with place.database.read() as session:
            live = (await session.scalars(select(Dataset).where(Dataset.removed_at.is_(None)))).all()
            tainted = await session.scalar(select(ReleaseRow.tainted))
        assert [path.name for path in (place.store / "datasets").iterdir()] == [live[0].id]
        assert len(list(read_lineage(place.store / live[0].location))) == left
        assert tainted
    finally:
        await place.database.close()
