"""An engine that runs but does nothing any more is started again; one that is slow, or loading, is left alone."""

import asyncio
import os
import signal

import aiohttp
import pytest
from sqlalchemy import select

from gateway.storage.notification_tables import Notification
from tests.gateway.agent.lab import REPLICA, Lab

pytestmark = pytest.mark.timeout(120)


def hangs_after(lab: Lab, seconds: float, chunk_seconds: float = 0.02) -> None:
    args = ("--chunk-seconds", str(chunk_seconds))
    lab.engine = lab.engine.model_copy(update={"hung_seconds": seconds, "args": args})


async def test_an_engine_that_answers_nothing_is_killed_started_again_and_told(lab: Lab) -> None:
    hangs_after(lab, 1.0)
    lab.start_agent()
    before = await lab.until(phase="ready")
    stopped = lab.record().pid
    os.kill(stopped, signal.SIGSTOP)
    row = await lab.until(restarts=1, phase="ready", seconds=40)
    assert (row.url, row.weights_release_id) == (before.url, lab.base_id)
    assert lab.engines() == [lab.record().pid]
    assert lab.record().pid != stopped
    assert (await lab.ask("hello")).startswith("base ")
    assert lab.agent_log().count("engine_hung") == 1
    async with lab.database.read() as session:
        [told] = (await session.scalars(select(Notification))).all()
    assert (told.event, told.alias) == ("engine_hung", "assistant")
    assert told.facts == {"replica": REPLICA, "release": lab.base_id, "silent_seconds": 1}


async def test_an_engine_whose_server_answers_while_nothing_is_decoded_is_started_again(lab: Lab) -> None:
    hangs_after(lab, 1.0)
    lab.start_agent()
    url = str((await lab.until(phase="ready")).url)
    async with aiohttp.ClientSession() as session:
        await session.post(f"{url}/pause?mode=wait")  # `/metrics` and `/health` are answered on
        await asyncio.sleep(2)
        assert (await lab.row()).restarts == 0  # nobody asks it for anything
        await lab.worker(1000, {url: 1})
        await lab.until(restarts=1, phase="ready")
    assert (await lab.ask("hello")).startswith("base ")


async def test_slow_work_that_goes_on_and_a_client_that_reads_slowly_are_no_hang(lab: Lab) -> None:
    hangs_after(lab, 1.0, chunk_seconds=0.15)
    lab.start_agent()
    url = str((await lab.until(phase="ready")).url)
    await lab.worker(1000, {url: 1})
    answer = await lab.ask("[words:20]")  # three seconds
    assert len(answer.split()) == 20
    await asyncio.sleep(1.5)  # in flight for the gateway, long over for the engine
    assert ((await lab.row()).restarts, "engine_hung" in lab.agent_log()) == (0, False)


async def test_an_engine_that_loads_for_longer_is_no_hang(lab: Lab) -> None:
    hangs_after(lab, 0.4, chunk_seconds=1.5)  # its first token, the proof that it serves, takes longer than that
    lab.start_agent()
    await lab.until(phase="ready")
    await asyncio.sleep(1)
    assert ((await lab.row()).restarts, "engine_hung" in lab.agent_log()) == (0, False)
