"""An engine whose device a training run borrows: stopped behind the fence, and back on what its alias serves then."""

import asyncio
import os
import signal
import time

from gateway.contracts.training import TrainingOptions
from gateway.rollout.lending import take_back_abandoned
from gateway.storage.lending import lend, take_back
from gateway.storage.routing_state import acknowledge, beat
from gateway.storage.runs import create_run
from gateway.storage.tables import Alias, GatewayWorker
from tests.gateway.agent.lab import ALIAS, REPLICA, Lab, eventually
from tests.gateway.agent.test_supervisor import supervise


async def unfenced(_: object) -> None:
    return


async def running_engines(lab: Lab, count: int) -> None:
    async def check() -> bool:
        return len(lab.engines()) == count

    await eventually(check)


async def test_an_engine_is_lent_behind_the_fence_and_comes_back_on_what_is_served_then(lab: Lab) -> None:
    supervisor, _ = supervise(lab, lab.database)
    work = asyncio.create_task(supervisor.run())
    await lab.until(phase="ready")
    now = time.time()
    async with lab.database.write() as session:
        await beat(session, GatewayWorker(id="gw_1", host="h", pid=1, epoch=0, started_at=now, seen_at=now))
        alias = await session.get_one(Alias, ALIAS)
        assert await lend(session, alias, "ftjob-1", may_be_missed=False) is None  # nobody else would answer
        spare = await lend(session, alias, "ftjob-1", may_be_missed=True)
    assert spare is not None
    assert (spare.engine.id, spare.is_missed) == (REPLICA, True)
    await asyncio.sleep(0.5)
    assert (await lab.ask("hello")).startswith("base ")  # a worker may still have a stream there
    async with lab.database.write() as session:
        await acknowledge(session, "gw_1", REPLICA, (await lab.row()).epoch)
    row = await lab.until(phase="lent")
    assert "is lent to the run ftjob-1" in row.detail
    await running_engines(lab, 0)
    release_id = await lab.release("promoted")
    async with lab.database.write() as session:
        (await session.get_one(type(row), REPLICA)).desired_weights_id = release_id
        await take_back(session, ALIAS, "ftjob-1")
    await lab.until(phase="ready", weights_release_id=release_id, lent_to=None, restarts=0)
    assert (await lab.ask("hello")).startswith("promoted ")
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await supervisor.shut_down()


async def test_an_engine_is_not_lent_before_the_second_process_has_answered_its_last_request(lab: Lab) -> None:
    """The device is not free while the one before still answers from it, even if the one that serves has ended."""
    lab.engine = lab.engine.model_copy(update={"exchange": "second_process"})
    supervisor, _ = supervise(lab, lab.database)
    work = asyncio.create_task(supervisor.run())
    first = await lab.until(phase="ready")
    better = await lab.release("better")
    await lab.worker(0, {str(first.url): 1})  # it knows nothing of an exchange yet, and has a request at work
    await lab.begin_beside(better)
    await lab.until(weights_release_id=better, swap_state=None)
    async with lab.database.write() as session:
        assert await lend(session, await session.get_one(Alias, ALIAS), "ftjob-1", may_be_missed=True)
    async with lab.database.write() as session:
        await acknowledge(session, "gw_1", REPLICA, (await lab.row()).epoch)
    serving = next(pid for pid in lab.engines() if pid != lab.record().pid)
    os.kill(serving, signal.SIGKILL)
    await running_engines(lab, 1)
    await asyncio.sleep(1)
    assert (await lab.row()).phase != "lent"
    assert lab.engines() == [lab.record().pid]  # what the first one has begun it ends
    await lab.worker(1000, {})
    await lab.until(phase="lent")
    assert lab.engines() == []
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await supervisor.shut_down()


async def test_an_engine_is_taken_back_from_a_run_that_nobody_holds_any_more(lab: Lab) -> None:
    now = time.time()
    async with lab.database.write() as session:
        row = await session.get_one(type(await lab.row()), REPLICA)
        row.phase, row.weights_release_id = "ready", lab.base_id
        run = await create_run(session, alias=ALIAS, trigger="manual", actor="k", options=TrainingOptions(), now=now)
        run.state, run.holder, run.lease_expires_at = "running", "aligner_1", now + 15
        await session.flush()
        assert await lend(session, await session.get_one(Alias, ALIAS), run.id, may_be_missed=True)
    await take_back_abandoned(lab.database, now, unfenced)
    await take_back_abandoned(lab.database, now + 30, unfenced)  # an aligner that died is given time to come back
    assert (await lab.row()).lent_to == run.id
    await take_back_abandoned(lab.database, now + 46, unfenced)
    assert ((await lab.row()).lent_to, (await lab.row()).swap_state) == (None, None)
