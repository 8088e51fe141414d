"""The agent as a process of its own, with scripted engines: what it does when told, and when things die."""

import asyncio
import os
import shutil
import signal
import time

import aiohttp
import psutil
import pytest
from sqlalchemy import text

from gateway.agent.workers import LEASE_SECONDS
from gateway.contracts.ids import engine_name
from gateway.storage.bucket import Bucket
from gateway.storage.routing_state import acknowledge, begin_loading
from gateway.storage.tables import Replica
from tests.gateway.agent.lab import REPLICA, Lab, eventually
from tests.patience import patient

pytestmark = pytest.mark.timeout(120)


async def test_engine_is_started_on_the_base_and_reported_ready(either_lab: Lab) -> None:
    either_lab.start_agent()
    row = await either_lab.until(phase="ready", weights_release_id=either_lab.base_id)
    assert (row.adapters, row.max_adapter_rank, row.restarts, row.detail) == ([], 32, 0, "")
    assert (await either_lab.ask("hello")).startswith("base ")
    assert (either_lab.folder / "data" / "logs" / f"engine-{REPLICA}.log").is_file()


async def test_killed_agent_leaves_its_engine_and_the_next_one_takes_it_over(lab: Lab) -> None:
    agent = lab.start_agent()
    await lab.until(phase="ready")
    release_id = await lab.release("kept")
    await lab.desire([release_id])
    await lab.until(adapters=[release_id])
    before = lab.record()
    answer = asyncio.create_task(lab.ask("[words:100]"))  # two seconds long: it spans both agents
    agent.kill()
    agent.wait()
    lab.start_agent()
    seen_before = (await lab.row()).seen_at

    async def is_seen() -> bool:
        return (await lab.row()).seen_at > seen_before + 1

    await eventually(is_seen)
    assert (lab.record().pid, lab.record().adapters) == (before.pid, (release_id,))
    row = await lab.row()
    assert (row.phase, row.restarts, row.adapters) == ("ready", 0, [release_id])
    assert len((await answer).split()) == 100
    assert "engine_adopted" in lab.agent_log()


async def test_engine_with_other_settings_is_not_taken_over(lab: Lab) -> None:
    agent = lab.start_agent()
    await lab.until(phase="ready")
    before = lab.record().pid
    agent.kill()
    agent.wait()
    lab.engine = lab.engine.model_copy(update={"args": ("--chunk-seconds", "0.001")})
    lab.start_agent()

    async def is_another() -> bool:
        return lab.record().pid != before and (await lab.row()).phase == "ready"

    await eventually(is_another)
    assert lab.engines() == [lab.record().pid]


async def test_killed_engine_is_restarted_on_its_port_and_counted(lab: Lab) -> None:
    lab.start_agent()
    before = await lab.until(phase="ready")
    os.kill(lab.record().pid, signal.SIGKILL)
    row = await lab.until(restarts=1, phase="ready")
    assert row.url == before.url
    assert (await lab.ask("hello")).startswith("base ")
    assert len(lab.engines()) == 1


async def test_adapter_is_loaded_under_its_name_and_forgotten_only_when_nobody_asks_for_it(lab: Lab) -> None:
    lab.start_agent()
    await lab.until(phase="ready")
    release_id = await lab.release("bold")
    await lab.worker(await lab.desire([release_id]))
    await lab.until(adapters=[release_id])
    assert (await lab.ask("hello", engine_name(release_id))).startswith("bold-adapter ")
    epoch = await lab.desire([])
    await asyncio.sleep(0.6)
    assert (await lab.row()).adapters == [release_id]  # the worker still goes by the epoch before
    await lab.worker(epoch)
    await lab.until(adapters=[])
    assert "does not exist" in await lab.ask("hello", engine_name(release_id))


async def test_damaged_adapter_is_refused_with_what_to_do(lab: Lab) -> None:
    lab.start_agent()
    await lab.until(phase="ready")
    release_id = await lab.release("bold")
    (lab.store / release_id / "adapter" / "adapter_config.json").write_text("[]")
    await lab.desire([release_id])

    async def refused() -> bool:
        return "differs from what was sealed" in (await lab.row()).detail

    await eventually(refused)
    row = await lab.row()
    assert (row.phase, row.adapters) == ("ready", [])
    assert lab.agent_log().count("adapter_not_loaded") == 1  # and no tight loop


async def test_weights_are_exchanged_only_behind_a_closed_fence(either_lab: Lab) -> None:
    lab = either_lab
    lab.start_agent()
    await lab.until(phase="ready")
    release_id = await lab.release("better")
    await lab.desire([release_id])
    await lab.until(adapters=[release_id])
    await lab.worker(0)
    epoch = await lab.begin_swap(release_id)
    await asyncio.sleep(0.6)
    assert (await lab.row()).swap_state == "draining"
    assert (await lab.ask("hello")).startswith("base ")
    async with lab.database.write() as session:
        await acknowledge(session, "gw_1", REPLICA, epoch)
    row = await lab.until(swap_state=None, weights_release_id=release_id)
    assert (row.phase, row.adapters, row.restarts) == ("ready", [], 0)
    assert (await lab.ask("hello")).startswith("better ")


async def test_exchange_does_not_wait_for_ever_for_a_worker_that_was_killed(lab: Lab) -> None:
    lab.start_agent()
    await lab.until(phase="ready")
    await lab.worker(0)  # from now on nobody writes for it
    release_id = await lab.release("better")
    began = time.monotonic()
    await lab.begin_swap(release_id)
    await lab.until(swap_state=None, weights_release_id=release_id)
    assert LEASE_SECONDS - 2 < time.monotonic() - began < LEASE_SECONDS + patient(2)


async def test_workers_kept_from_writing_for_longer_than_a_lease_are_not_taken_for_dead(lab: Lab) -> None:
    lab.start_agent()
    await lab.until(phase="ready")

    async def beat_for_ever() -> None:
        while True:
            await lab.worker(0)
            await asyncio.sleep(0.5)

    worker = asyncio.create_task(beat_for_ever())
    release_id = await lab.release("better")
    epoch = await lab.begin_swap(release_id)
    await asyncio.sleep(2.5)  # the agent has looked at the worker
    async with lab.database.write() as session:
        await session.execute(text("SELECT 1"))  # holds SQLite's only write lock
        await asyncio.sleep(LEASE_SECONDS + 2)
    await asyncio.sleep(3)
    assert (await lab.row()).swap_state == "draining"
    async with lab.database.write() as session:
        await acknowledge(session, "gw_1", REPLICA, epoch)
    await lab.until(swap_state=None, weights_release_id=release_id)
    worker.cancel()


async def test_damaged_weights_call_the_exchange_off_and_the_engine_serves_on(lab: Lab) -> None:
    lab.start_agent()
    await lab.until(phase="ready")
    release_id = await lab.release("worse")
    (lab.store / release_id / "merged" / "marker.txt").write_text("hacked")
    await lab.begin_swap(release_id)
    row = await lab.until(swap_state=None, desired_weights_id=lab.base_id)
    assert "differs from what was sealed" in row.detail
    assert "alignway releases list" in row.detail
    assert (row.phase, row.weights_release_id, row.restarts) == ("ready", lab.base_id, 0)
    assert (await lab.ask("hello")).startswith("base ")


async def test_weights_that_do_not_load_end_in_a_restart_on_those_before(lab: Lab) -> None:
    lab.start_agent()
    await lab.until(phase="ready")
    before = lab.record().pid
    release_id = await lab.release("unfinished", unloadable=True)
    await lab.begin_swap(release_id)
    row = await lab.until(swap_state=None, phase="ready", weights_release_id=lab.base_id)
    assert "were not taken" in row.detail
    assert lab.record().pid != before
    assert (await lab.ask("hello")).startswith("base ")


async def test_engine_that_dies_while_draining_comes_back_on_the_wanted_weights(lab: Lab) -> None:
    lab.start_agent()
    await lab.until(phase="ready")
    release_id = await lab.release("better")
    await lab.worker(0)
    epoch = await lab.begin_swap(release_id)
    os.kill(lab.record().pid, signal.SIGKILL)
    await lab.until(phase="starting", swap_state="draining")
    async with lab.database.write() as session:
        await acknowledge(session, "gw_1", REPLICA, epoch)
    await lab.until(phase="ready", swap_state=None, weights_release_id=release_id)
    assert (await lab.ask("hello")).startswith("better ")


@pytest.mark.parametrize("engine_survives", [True, False])
async def test_exchange_cut_short_by_a_kill_is_brought_to_its_end(lab: Lab, engine_survives: bool) -> None:
    agent = lab.start_agent()
    await lab.until(phase="ready")
    agent.kill()
    agent.wait()
    release_id = await lab.release("better")
    epoch = await lab.begin_swap(release_id)
    async with lab.database.write() as session:
        assert await begin_loading(session, REPLICA, epoch)
    if not engine_survives:
        os.kill(lab.record().pid, signal.SIGKILL)
    lab.start_agent()
    await lab.until(phase="ready", swap_state=None, weights_release_id=release_id)
    assert (await lab.ask("hello")).startswith("better ")
    assert len(lab.engines()) == 1


async def test_engine_of_uncertain_weights_is_never_taken_over(lab: Lab) -> None:
    agent = lab.start_agent()
    row = await lab.until(phase="ready")
    agent.kill()
    agent.wait()
    before = lab.record().pid
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{row.url}/update_weight_version", json={"new_version": "rel_other"}) as answer,
    ):
        assert answer.status == 200
    lab.start_agent()

    async def is_another() -> bool:
        return lab.record().pid != before and (await lab.row()).phase == "ready"

    await eventually(is_another)
    assert lab.engines() == [lab.record().pid]


async def test_damaged_serving_release_at_start_falls_back_to_the_base(lab: Lab) -> None:
    release_id = await lab.release("damaged")
    (lab.store / release_id / "SEAL.json").unlink()
    async with lab.database.write() as session:
        (await session.get_one(Replica, REPLICA)).desired_weights_id = release_id
    lab.start_agent()
    row = await lab.until(phase="ready", weights_release_id=lab.base_id)
    assert "SEAL.json" in row.detail
    assert (await lab.ask("hello")).startswith("base ")


async def test_missing_base_model_is_a_clear_failure_and_heals_when_it_returns(lab: Lab) -> None:
    (lab.folder / "base").rename(lab.folder / "elsewhere")
    lab.start_agent()
    row = await lab.until(phase="failed")
    assert "config.json" in row.detail
    assert "alignway models pull" in row.detail
    (lab.folder / "elsewhere").rename(lab.folder / "base")
    row = await lab.until(phase="ready")
    assert row.detail == ""


async def test_engine_that_will_not_start_is_quoted(lab: Lab) -> None:
    lab.engine = lab.engine.model_copy(update={"args": ("--no-such-flag",)})
    lab.start_agent()
    row = await lab.until(phase="failed")
    assert "unrecognized arguments: --no-such-flag" in row.detail
    assert f"engine-{REPLICA}.log" in row.detail


@pytest.mark.parametrize("how", ["SIGTERM", "end of input"])
async def test_told_to_stop_it_ends_the_engine_and_says_so(lab: Lab, how: str) -> None:
    agent = lab.start_agent()
    await lab.until(phase="ready")
    if how == "SIGTERM":
        agent.terminate()
    else:
        assert agent.stdin is not None
        agent.stdin.close()
    assert await asyncio.to_thread(agent.wait, 20) == 0
    assert lab.engines() == []
    assert (await lab.row()).phase == "stopped"


async def test_stopping_during_a_start_leaves_nothing_behind(lab: Lab) -> None:
    agent = lab.start_agent()

    async def has_spawned() -> list[int]:
        return lab.engines()

    await eventually(has_spawned)
    agent.terminate()
    assert await asyncio.to_thread(agent.wait, 20) == 0
    assert lab.engines() == []


async def test_engine_started_but_never_recorded_is_ended_by_the_next_agent(lab: Lab) -> None:
    agent = lab.start_agent()
    await lab.until(phase="ready")
    agent.kill()
    agent.wait()
    stray = lab.record().pid
    (lab.folder / "data" / "engines" / f"{REPLICA}.json").unlink()
    lab.start_agent()

    async def is_replaced() -> bool:
        return lab.engines() not in ([], [stray]) and not psutil.pid_exists(stray)

    await eventually(is_replaced)


async def test_release_of_another_machine_is_fetched_and_loaded(lab: Lab) -> None:
    release_id = await lab.release("afar")
    lab.store_url = f"file://{lab.folder / 'bucket'}"
    Bucket(lab.store_url).upload(lab.store / release_id, release_id)
    shutil.rmtree(lab.store)
    lab.start_agent()
    await lab.until(phase="ready")
    await lab.desire([release_id])
    await lab.until(adapters=[release_id])
    assert (await lab.ask("hello", engine_name(release_id))).startswith("afar-adapter ")
