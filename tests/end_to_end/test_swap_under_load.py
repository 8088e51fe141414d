"""A promotion under load with two gateway workers: nothing fails, nothing mixes, every word names who wrote it."""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from tests.stack import Stack, running, stack_settings

STREAMS = 16


@dataclass
class Heard:
    """One streamed answer as a client heard it."""

    completion_id: str
    release_ids: set[str]
    names: set[str]
    markers: set[str]
    finish_reason: str | None


async def stream_once(stack: Stack, number: int) -> Heard:
    stream = await stack.client.chat.completions.create(
        model="assistant",
        messages=[{"role": "user", "content": f"[words:40] question {number}"}],
        stream=True,
    )
    heard = Heard("", set(), set(), set(), None)
    text = ""
    async for chunk in stream:
        heard.completion_id = chunk.id
        heard.release_ids.add(str(chunk.system_fingerprint))
        heard.names.add(chunk.model)
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            heard.finish_reason = chunk.choices[0].finish_reason or heard.finish_reason
    heard.markers = {word for word in text.split() if word.isupper()}
    return heard


async def heard_from(heard: list[Heard], release_id: str) -> bool:
    return any(release_id in one.release_ids for one in heard)


async def traffic(stack: Stack, stop: asyncio.Event, heard: list[Heard], lane: int) -> None:
    number = 0
    while not stop.is_set():
        heard.append(await stream_once(stack, lane * 1000 + number))
        number += 1


async def vote_on(stack: Stack, one: Heard) -> None:
    body = {
        "type": "correction",
        "target": {"completion_id": one.completion_id, "index": 0},
        "message": {"role": "assistant", "content": "A shorter answer."},
    }
    status, answer = await stack.call("POST", "/v1/feedback", body)
    assert status == 201, answer
    assert answer["target"]["release_ids"] == list(one.release_ids)


async def recorded(stack: Stack, table: Any) -> dict[str, Any]:
    async with stack.database.read() as session:
        return {row.id: row for row in await session.scalars(select(table))}


@pytest.mark.parametrize("swap", ["merged", "adapter"])
async def test_every_record_answer_and_vote_names_the_release_that_wrote_it(
    tmp_path: Path, database_url: str, swap: str
) -> None:
    model = {"model": str(tmp_path / "model"), "swap": swap, "engine": {"kind": "scripted"}}
    settings = stack_settings(tmp_path, database_url, models=[model], server={"workers": 2})
    async with running(settings) as stack:
        _, base = await stack.call("GET", "/admin/v1/aliases/assistant")
        one, two = await stack.make_release("ONE"), await stack.make_release("TWO")
        markers = {base["serving_release"]: "BASE", one.id: "ONE", two.id: "TWO"}
        stop, heard = asyncio.Event(), list[Heard]()
        lanes = [asyncio.create_task(traffic(stack, stop, heard, lane)) for lane in range(STREAMS)]
        for release in (one, two):
            await asyncio.sleep(0.3)
            rollout = await stack.promote(release.id)
            assert (await stack.ended(rollout["id"]))["state"] == "promoted"
            await stack.until(partial(heard_from, heard, release.id))
        _, back = await stack.call("POST", "/admin/v1/aliases/assistant/rollback", {"reason": "test"})
        assert (await stack.ended(back["id"]))["state"] == "promoted"
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*lanes)

        assert len(heard) > STREAMS * 3
        for one_heard in heard:
            (release_id,) = one_heard.release_ids
            assert one_heard.finish_reason in ("stop", "length")
            assert one_heard.markers == {markers[release_id]}
            assert len(one_heard.names) == 1
        assert {release_id for one_heard in heard for release_id in one_heard.release_ids} == set(markers)

        completions = await recorded(stack, Completion)
        for one_heard in heard:
            row = completions[one_heard.completion_id]
            assert {row.release_id} == one_heard.release_ids
            assert row.status == "finished"
            words = row.choices[0]["message"]["content"].split()
            assert {word for word in words if word.isupper()} == one_heard.markers

        voted = [next(h for h in heard if h.release_ids == {release_id}) for release_id in markers]
        for one_heard in voted:
            await vote_on(stack, one_heard)
        pairs = (await recorded(stack, PairRow)).values()
        assert {pair.body["rejected"]["release_id"] for pair in pairs} == set(markers)
        assert len(await recorded(stack, Feedback)) == 3

        _, last = await stack.call("GET", "/admin/v1/aliases/assistant")
        assert last["serving_release"] == one.id
        assert {word for word in (await stack.ask()).choices[0].message.content.split() if word.isupper()} == {"ONE"}
