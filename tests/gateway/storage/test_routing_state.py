"""The fence and the exchanges behind it as rows, on each kind of database."""

import time

from gateway.storage import routing_state
from gateway.storage.database import Database
from gateway.storage.replicas import register_replica
from gateway.storage.tables import Alias, GatewayWorker, Project, Replica

REPLICA = "assistant-1"


async def prepare(database: Database, weights_id: str | None = "rel_base") -> int:
    """A replica that drains for `rel_a`; the fence's epoch."""
    async with database.write() as session:
        session.add(Project(id="proj_1", name="one", created_at=0.0))
        await session.flush()
        alias = Alias(name="assistant", project_id="proj_1", base_release_id="rel_base",
                      serving_release_id="rel_base", created_at=0.0, updated_at=0.0)  # fmt: skip
        session.add(alias)
        await session.flush()
        row = await register_replica(session, REPLICA, "assistant", "scripted", "rel_base")
        row.weights_release_id = weights_id
        return await routing_state.begin_swap(session, row, "rel_a", time.time() + 30)


async def closed(database: Database, epoch: int, dead: dict[str, float]) -> bool:
    async with database.read() as session:
        return await routing_state.fence_is_closed(session, REPLICA, epoch, dead)


async def beat(database: Database, worker: str, seen_at: float, epoch: int = 0) -> None:
    async with database.write() as session:
        await routing_state.beat(
            session, GatewayWorker(id=worker, host="h", pid=1, epoch=epoch, started_at=0.0, seen_at=seen_at)
        )


async def row(database: Database) -> Replica:
    async with database.read() as session:
        return await session.get_one(Replica, REPLICA)


async def test_a_fence_waits_for_a_worker_however_old_its_heartbeat_until_it_is_known_to_be_dead(
    database: Database,
) -> None:
    epoch = await prepare(database)
    assert await closed(database, epoch, {})  # there is no worker at all
    await beat(database, "gw_1", seen_at=1.0)
    assert not await closed(database, epoch, {})
    assert await closed(database, epoch, {"gw_1": 1.0})
    await beat(database, "gw_1", seen_at=2.0)
    assert not await closed(database, epoch, {"gw_1": 1.0})  # it has spoken since
    async with database.write() as session:
        await routing_state.acknowledge(session, "gw_1", REPLICA, epoch)
    assert await closed(database, epoch, {})


async def test_an_epoch_is_obeyed_by_all_once_only_the_dead_are_behind(database: Database) -> None:
    await beat(database, "gw_1", seen_at=1.0, epoch=3)
    await beat(database, "gw_2", seen_at=1.0, epoch=5)
    async with database.read() as session:
        assert not await routing_state.obeyed_by_all(session, 5, {})
        assert await routing_state.obeyed_by_all(session, 5, {"gw_1": 1.0})
        assert not await routing_state.obeyed_by_all(session, 5, {"gw_1": 0.5})


async def test_an_exchange_called_off_on_an_engine_of_unknown_weights_keeps_what_was_wanted(
    database: Database,
) -> None:
    epoch = await prepare(database, weights_id=None)
    async with database.write() as session:
        assert not await routing_state.call_off_swap(session, REPLICA, epoch - 1, "too late")
        assert await routing_state.call_off_swap(session, REPLICA, epoch, "streams", not_before=5.0)
    after = await row(database)
    assert (after.desired_weights_id, after.swap_state, after.swap_not_before) == ("rel_a", None, 5.0)
    assert after.swap_put_offs == 1


async def test_an_exchange_that_failed_is_not_tried_again_at_once(database: Database) -> None:
    epoch = await prepare(database)
    async with database.write() as session:
        assert await routing_state.begin_loading(session, REPLICA, epoch)
        assert await routing_state.fail_swap(session, REPLICA, epoch, "rel_base", "no", not_before=7.0)
        assert not await routing_state.complete_swap(session, REPLICA, epoch, "rel_a")
    after = await row(database)
    assert (after.desired_weights_id, after.phase, after.swap_not_before) == ("rel_base", "starting", 7.0)
