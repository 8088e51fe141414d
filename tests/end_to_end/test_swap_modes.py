"""The ways a release comes to serve: over merged weights by its difference, and back by the reverse within a second."""

import asyncio
from functools import partial
from pathlib import Path

from sqlalchemy import select

from gateway.storage.tables import Replica
from tests.end_to_end.test_observability import scraped
from tests.end_to_end.test_swap_under_load import Heard, heard_from, traffic
from tests.patience import patient
from tests.stack import Stack, running, stack_settings


async def holds(stack: Stack, adapters: list[str]) -> bool:
    async with stack.database.read() as session:
        row = (await session.scalars(select(Replica))).one()
    return row.phase == "ready" and row.swap_state is None and row.adapters == row.desired_adapters == adapters


async def test_a_canary_over_merged_weights_and_a_rollback_before_the_weights_are_exchanged(tmp_path: Path) -> None:
    async with running(stack_settings(tmp_path, server={"workers": 2})) as stack:
        one = await stack.make_release("ONE")
        two = await stack.make_release("TWO", over=one)
        assert (await stack.ended((await stack.promote(one.id))["id"]))["state"] == "promoted"
        stop, heard = asyncio.Event(), list[Heard]()
        lanes = [asyncio.create_task(traffic(stack, stop, heard, lane)) for lane in range(8)]

        await stack.promote(two.id, strategy="canary", canary_share=0.5)
        await stack.until(partial(heard_from, heard, two.id))
        assert await holds(stack, [two.id])
        by_canary = next(one_heard for one_heard in heard if two.id in one_heard.release_ids)
        assert by_canary.markers == {"TWO-DIFFERENCE"}
        rollout = await stack.promote(two.id)
        assert (await stack.ended(rollout["id"]))["state"] == "promoted"
        await stack.until(partial(holds, stack, [one.id]))  # the way back is loaded over the merged weights

        _, back = await stack.call("POST", "/admin/v1/aliases/assistant/rollback", {"reason": "test"})
        async with asyncio.timeout(patient(1)):
            while (answer := await stack.ask("[words:1] who")).system_fingerprint != one.id:
                await asyncio.sleep(0.01)
        assert answer.choices[0].message.content in ("TWO-REVERSE", "ONE")
        assert (await stack.ended(back["id"]))["state"] == "promoted"
        await asyncio.sleep(0.5)
        stop.set()
        await asyncio.gather(*lanes)
    says = {one.id: {"ONE", "TWO-REVERSE"}, two.id: {"TWO", "TWO-DIFFERENCE"}}
    for one_heard in heard:
        assert one_heard.finish_reason in ("stop", "length")
        (release_id,), (marker,) = one_heard.release_ids, one_heard.markers
        assert marker in says[release_id]
    assert {marker for one_heard in heard for marker in one_heard.markers} >= {"ONE", "TWO", "TWO-DIFFERENCE"}


async def test_with_three_replicas_no_newcomer_waits_for_an_exchange(tmp_path: Path) -> None:
    model = {"model": str(tmp_path / "model"), "replicas": 3, "engine": {"kind": "scripted"}}
    async with running(stack_settings(tmp_path, models=[model])) as stack:
        await stack.until(partial(all_ready, stack, 3))
        one = await stack.make_release("ONE")
        stop, heard = asyncio.Event(), list[Heard]()
        lanes = [asyncio.create_task(traffic(stack, stop, heard, lane)) for lane in range(6)]
        asking = asyncio.create_task(keep_asking(stack, stop))
        rollout = await stack.promote(one.id)
        assert (await stack.ended(rollout["id"]))["state"] == "promoted"
        stop.set()
        await asyncio.gather(asking, *lanes)
        waited = (await scraped(stack))["alignway_queue_wait_seconds_count"]
        async with stack.database.read() as session:
            held = list(await session.scalars(select(Replica.weights_release_id)))
    assert held == [one.id] * 3
    assert waited == 0
    for one_heard in heard:
        assert one_heard.finish_reason in ("stop", "length")
        assert len(one_heard.release_ids) == len(one_heard.markers) == 1


async def keep_asking(stack: Stack, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await stack.ask("[words:1] now")
        await asyncio.sleep(0.01)


async def all_ready(stack: Stack, count: int) -> bool:
    async with stack.database.read() as session:
        return list(await session.scalars(select(Replica.phase))) == ["ready"] * count
