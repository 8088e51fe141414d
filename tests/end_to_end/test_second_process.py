"""Engines that take no weights while they run: a second process takes over, and nobody waits with one replica alone."""

import asyncio
from pathlib import Path

from sqlalchemy import select

from gateway.storage.tables import FenceAck
from tests.end_to_end.test_swap_under_load import Heard, traffic
from tests.stack import Stack, running, stack_settings


async def at_work(stack: Stack) -> bool:
    _, replicas = await stack.call("GET", "/admin/v1/replicas")
    return bool(replicas["data"][0]["swap_state"] == "beside")


async def test_promotion_and_rollback_by_a_second_process_let_nobody_wait(tmp_path: Path) -> None:
    engine = {"kind": "scripted", "exchange": "second_process", "max_adapter_rank": 0}
    settings = stack_settings(tmp_path, models=[{"model": str(tmp_path / "model"), "engine": engine}])
    async with running(settings) as stack:
        base_id = (await stack.ask("[words:1] who")).system_fingerprint
        one, two = await stack.make_release("ONE"), await stack.make_release("TWO")
        stop, heard = asyncio.Event(), list[Heard]()
        lanes = [asyncio.create_task(traffic(stack, stop, heard, lane)) for lane in range(4)]
        assert (await stack.ended((await stack.promote(one.id))["id"]))["state"] == "promoted"

        given_up = await stack.promote(two.id)
        await stack.until(lambda: at_work(stack))
        await stack.call("POST", "/admin/v1/aliases/assistant/rollback", {})
        assert (await stack.ended(given_up["id"]))["state"] == "rolled_back"
        _, back = await stack.call("POST", "/admin/v1/aliases/assistant/rollback", {})
        assert (await stack.ended(back["id"]))["state"] == "promoted"
        stop.set()
        await asyncio.gather(*lanes)
        assert (await stack.ask("[words:1] who")).system_fingerprint == base_id
        async with stack.database.read() as session:
            assert list(await session.scalars(select(FenceAck))) == []  # no worker was ever told to hold anybody back
    says = {base_id: {"BASE"}, one.id: {"ONE"}}
    for one_heard in heard:
        assert one_heard.finish_reason in ("stop", "length")
        (release_id,) = one_heard.release_ids
        assert one_heard.markers == says[release_id]
