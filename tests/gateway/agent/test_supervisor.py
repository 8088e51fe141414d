"""One supervisor in this process, over a database that can be taken away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.agent.engine_host import EngineHost
from gateway.agent.held import Backoff
from gateway.agent.releases import ReleaseFetcher, ReleaseLookup
from gateway.agent.settings import ReplicaSettings
from gateway.agent.supervisor import ReplicaSupervisor
from gateway.errors import DatabaseUnavailable
from gateway.storage.database import Database, Durability
from gateway.storage.tables import Replica
from tests.gateway.agent.lab import REPLICA, Lab, eventually


class FlakyDatabase(Database):
    """A database that can be out of reach."""

    away = False

    @asynccontextmanager
    async def _session(self, durability: Durability, read_only: bool) -> AsyncIterator[AsyncSession]:
        if self.away:
            raise DatabaseUnavailable("away, for the test")
        async with super()._session(durability, read_only) as session:
            yield session


def supervise(lab: Lab, database: Database) -> tuple[ReplicaSupervisor, EngineHost]:
    """A supervisor whose steps the test takes."""
    host = EngineHost(REPLICA, ReplicaSettings(engine=lab.engine), lab.folder / "data")
    return ReplicaSupervisor(REPLICA, database, ReleaseLookup(database, ReleaseFetcher(lab.store)), host), host


async def test_engine_serves_on_while_the_database_is_away(lab: Lab) -> None:
    database = FlakyDatabase(lab.database.url)
    supervisor, host = supervise(lab, database)
    work = asyncio.create_task(supervisor.run())
    await lab.until(phase="ready")
    before = lab.record().pid
    database.away = True
    release_id = await lab.release("later")
    await lab.desire([release_id])
    await asyncio.sleep(0.5)
    assert host.alive
    assert (await lab.ask("hello")).startswith("base ")
    assert (await lab.row()).adapters == []
    database.away = False
    await lab.until(adapters=[release_id])
    assert lab.record().pid == before
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await supervisor.shut_down()
    await database.close()


async def test_exchange_is_completed_in_the_records_once_the_database_is_back(lab: Lab) -> None:
    database = FlakyDatabase(lab.database.url)
    supervisor, host = supervise(lab, database)
    await supervisor.step()
    release_id = await lab.release("better")
    await lab.begin_swap(release_id)
    replace_weights = host.control.replace_weights

    async def replace_and_lose_the_database(*arguments: object) -> None:
        await replace_weights(*arguments)  # type: ignore[arg-type]
        database.away = True

    host.control.replace_weights = replace_and_lose_the_database  # type: ignore[method-assign, assignment]
    with pytest.raises(DatabaseUnavailable):
        await supervisor.step()
    assert (await lab.row()).swap_state == "loading"
    database.away = False
    await supervisor.step()
    row = await lab.row()
    assert (row.swap_state, row.weights_release_id, row.phase) == (None, release_id, "ready")
    await supervisor.shut_down()
    await database.close()


async def test_engine_that_holds_other_weights_than_the_row_says_is_withdrawn_before_it_is_offered(lab: Lab) -> None:
    supervisor, _ = supervise(lab, lab.database)
    await supervisor.step()
    other = await lab.release("other")
    async with lab.database.write() as session:
        (await session.get_one(Replica, REPLICA)).weights_release_id = other  # as after a restored backup
    await lab.worker(0)
    await supervisor.step()
    assert (await lab.row()).phase == "starting"
    await supervisor.step()
    assert (await lab.row()).phase == "starting"  # the worker has not seen that yet
    await lab.worker(1000)
    await supervisor.step()
    row = await lab.row()
    assert (row.phase, row.weights_release_id) == ("ready", lab.base_id)
    await supervisor.shut_down()


def test_pauses_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("gateway.agent.held.time.monotonic", lambda: now)
    pause = Backoff(0.5, 2.0)
    waited = []
    for _ in range(4):
        pause.trouble()
        start = now
        while not pause.due():
            now += 0.25
        waited.append(now - start)
    assert waited == [0.5, 1.0, 2.0, 2.0]
    now += 61
    pause.trouble()
    now += 0.5
    assert pause.due()


async def test_an_engine_that_takes_no_weights_is_followed_by_a_second_one_and_drains(lab: Lab) -> None:
    lab.engine = lab.engine.model_copy(update={"exchange": "second_process"})
    supervisor, _ = supervise(lab, lab.database)
    work = asyncio.create_task(supervisor.run())
    first = await lab.until(phase="ready", in_place=False)
    better, broken = await lab.release("better"), await lab.release("broken", unloadable=True)

    await lab.begin_beside(broken)
    kept = await lab.until(swap_state=None)
    assert (kept.url, kept.weights_release_id, kept.phase) == (first.url, lab.base_id, "ready")
    assert "no second engine on the weights of" in kept.detail
    assert (await lab.ask("hello")).startswith("base ")

    await lab.worker(0, {str(first.url): 1})
    await lab.begin_beside(better)
    second = await lab.until(weights_release_id=better, swap_state=None)
    assert second.url != first.url
    assert (await lab.ask("hello")).startswith("better ")
    await asyncio.sleep(1)
    assert len(lab.engines()) == 2  # a request is at work there, and the worker has not seen the change
    await lab.worker(1000, {})
    await eventually(lambda: counted(lab, 1))
    assert (await lab.ask("hello")).startswith("better ")
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await supervisor.shut_down()
    assert lab.engines() == []


async def counted(lab: Lab, engines: int) -> bool:
    return len(lab.engines()) == engines
