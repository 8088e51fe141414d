"""A worker keeps its table while nothing it is made of changes, and has a new one soon after anything does."""

import time

import pytest

from gateway.routing import sync as module
from gateway.routing.pool import Pool
from gateway.routing.sync import RoutingSync
from gateway.sections.serving import SwapSettings
from gateway.storage.database import Database
from gateway.storage.tables import Replica
from tests.gateway.rollout.served import REPLICA, Served


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("phase", "starting"),
        ("url", "http://127.0.0.1:1"),
        ("adapters", ["rel_a"]),
        ("desired_adapters", ["rel_a"]),
        ("swap_state", "draining"),
        ("restarts", 3),
    ],
)
async def test_what_an_agent_reports_without_an_epoch_is_seen_at_the_next_look(
    database: Database, monkeypatch: pytest.MonkeyPatch, column: str, value: object
) -> None:
    served = Served(database)
    await served.prepare()
    monkeypatch.setattr(module, "RELOAD_SECONDS", 0.0)
    pool = Pool(SwapSettings())
    sync = RoutingSync(Database(database.url), pool)
    await sync.step()
    before = pool.table
    await sync.step()
    assert pool.table is before
    async with database.write() as session:
        (await session.get_one(Replica, REPLICA)).seen_at = time.time()  # a heartbeat alone changes nothing
    await sync.step()
    assert pool.table is before
    async with database.write() as session:
        setattr(await session.get_one(Replica, REPLICA), column, value)
    await sync.step()
    assert pool.table is not before
    assert pool.table.replicas != before.replicas or column == "adapters"  # one that is not wanted stays unnamed
    await sync.leave()
