"""Second answers, through a real gateway over an engine whose every answer the test decides."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.annotation.sampling import flaw_of
from gateway.storage.annotation_tables import AnnotationTask
from gateway.storage.feedback_tables import Completion
from gateway.storage.stored import COMPARISON_KEY
from tests.gateway.annotation.endpoint import first_then_second, says
from tests.gateway.relay.served import ADMIN_KEY, Ask, Gateway, chat, gateway, get, next_answer, with_length
from tests.patience import patient
from tests.stack import running, stack_settings


async def rows_of(served: Gateway, table: Any) -> list[Any]:
    async with served.services.database.read() as session:
        return list(await session.scalars(select(table).order_by(table.created_at)))


async def settled(served: Gateway, *, left_out: int = 0, tasks: int = 0, seconds: float = 5.0) -> list[AnnotationTask]:
    """Wait until so many comparisons were left out or made."""
    comparisons = served.services.comparisons
    assert comparisons is not None
    async with asyncio.timeout(seconds):
        while comparisons.left_out.total() < left_out or len(await rows_of(served, AnnotationTask)) < tasks:
            await asyncio.sleep(0.02)
    return await rows_of(served, AnnotationTask)


async def test_a_second_answer_is_asked_for_and_both_are_to_be_compared(tmp_path: Path) -> None:
    async with gateway(tmp_path, comparisons={"share": 1.0, "temperature": 0.9}) as served:
        served.engine.behaviour = first_then_second("是。", "不是。")
        await served.send(chat("安全吗？", close=True, temperature=0.2, user="u-1", max_tokens=7))
        (task,) = await settled(served, tasks=1)
        first, second = await rows_of(served, Completion)
        asked = served.engine.bodies[1]
        assert (asked["temperature"], asked["max_tokens"], asked.get("stream")) == (0.9, 7, None)
        assert asked["messages"] == served.engine.bodies[0]["messages"]
        assert {side["completion_id"] for side in task.sides} == {first.id, second.id}
        assert (second.key_id, second.call_metadata) == (COMPARISON_KEY, {"comparison_of": first.id})
        assert (second.choices[0]["message"]["content"], second.release_id) == ("不是。", first.release_id)
        assert second.end_user_hash == first.end_user_hash is not None  # found when the user is erased
        assert (task.purpose, task.alias, task.project_id) == ("comparison", "assistant", first.project_id)


async def test_a_second_answer_is_hidden_from_the_list_of_stored_answers(tmp_path: Path) -> None:
    async with gateway(tmp_path, comparisons={"share": 1.0}) as served:
        served.engine.behaviour = first_then_second("yes", "no")
        await served.send(chat(close=True))
        await settled(served, tasks=1)
        async with served.line() as (reader, writer):
            writer.write(get("/v1/chat/completions", f"authorization: Bearer {ADMIN_KEY}"))
            listed = json.loads((await next_answer(reader)).body)["data"]
        assert [one["choices"][0]["message"]["content"] for one in listed] == ["yes"]


async def test_the_client_does_not_wait_for_the_second_answer(tmp_path: Path) -> None:
    may_end = asyncio.Event()

    async def slow(ask: Ask) -> None:
        if "seed" in ask.body:
            await may_end.wait()
        await ask.say(says("yes"))

    async with gateway(tmp_path, comparisons={"share": 1.0}) as served:
        served.engine.behaviour = slow
        async with asyncio.timeout(patient(2)):
            for _ in range(3):
                await served.send(chat(close=True))
        may_end.set()


@pytest.mark.parametrize("fields", [{"store": False}, {"n": 2}, {"metadata": {"task": "title"}}])
async def test_what_is_not_stored_has_several_answers_or_is_a_task_call_is_not_compared(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    async def two(ask: Ask) -> None:
        choices = [
            {"index": index, "message": {"role": "assistant", "content": f"{index}"}, "finish_reason": "stop"}
            for index in range(ask.body.get("n") or 1)
        ]
        await ask.say(with_length(json.dumps({"choices": choices}).encode()))

    async with gateway(tmp_path, comparisons={"share": 1.0}) as served:
        served.engine.behaviour = two
        await served.send(chat(close=True, **fields))
        await asyncio.sleep(0.2)
        assert len(served.engine.bodies) == 1


async def test_nothing_is_asked_of_an_engine_that_is_busy(tmp_path: Path) -> None:
    async with gateway(tmp_path, comparisons={"share": 1.0, "free_below": 1}) as served:
        served.engine.behaviour = first_then_second("yes", "no")
        replica = served.services.pool.table.replicas[0].id
        served.services.pool.in_flight[replica] += 1
        await served.send(chat(close=True))
        await settled(served, left_out=1)
        served.services.pool.in_flight[replica] -= 1
        assert served.services.comparisons is not None
        assert served.services.comparisons.left_out == {"busy": 1}
        assert len(served.engine.bodies) == 1


async def test_more_than_may_wait_is_left_out(tmp_path: Path) -> None:
    held = asyncio.Event()

    async def hold(ask: Ask) -> None:
        if "seed" in ask.body:
            await held.wait()
        await ask.say(says("no" if "seed" in ask.body else "yes"))

    async with gateway(tmp_path, comparisons={"share": 1.0, "max_waiting": 2}) as served:
        served.engine.behaviour = hold
        for _ in range(5):
            await served.send(chat(close=True))
            await asyncio.sleep(0.05)
        assert served.services.comparisons is not None
        assert served.services.comparisons.left_out == {"queue_full": 2}  # one is asked, two wait
        held.set()
        await settled(served, tasks=3)


async def test_answers_that_say_the_same_are_not_worth_a_look(tmp_path: Path) -> None:
    async with gateway(tmp_path, comparisons={"share": 1.0}) as served:
        served.engine.behaviour = first_then_second("yes", "yes ")
        await served.send(chat(close=True))
        assert await settled(served, left_out=1) == []
        assert served.services.comparisons is not None
        assert served.services.comparisons.left_out == {"identical_outputs": 1}


async def test_without_a_parent_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    async with gateway(tmp_path, comparisons={"share": 1.0, "against": "parent"}) as served:
        served.engine.behaviour = first_then_second("yes", "no")
        await served.send(chat(close=True))
        await settled(served, left_out=1)
        assert served.services.comparisons is not None
        assert served.services.comparisons.left_out == {"no_parent": 1}


async def test_a_release_is_compared_with_its_parent_while_a_replica_holds_both(tmp_path: Path) -> None:
    model = {"model": str(tmp_path / "model"), "swap": "adapter", "engine": {"kind": "scripted"}}
    settings = stack_settings(tmp_path, models=[model], comparisons={"share": 1.0, "against": "parent"})
    async with running(settings) as stack:
        release = await stack.make_release("CANDIDATE")
        await stack.ended((await stack.promote(release.id))["id"])
        await stack.ask("[words:6] which is better?")

        async def compared() -> bool:
            async with stack.database.read() as session:
                return await session.scalar(select(AnnotationTask)) is not None

        await stack.until(compared)
        async with stack.database.read() as session:
            written = {one.release_id: one for one in await session.scalars(select(Completion))}
    assert set(written) == {release.id, release.parent_id}
    texts = {one.release_id: one.choices[0]["message"]["content"] for one in written.values()}
    assert texts[release.id].startswith("CANDIDATE ")
    assert texts[release.parent_id].startswith("BASE ")


async def test_off_means_that_nothing_is_there(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        await served.send(chat(close=True))
        await asyncio.sleep(0.1)
        assert served.services.comparisons is None
        assert len(served.engine.bodies) == 1


@pytest.mark.parametrize(
    ("first", "second", "flaw"),
    [
        ({}, {}, None),
        ({"finish_reason": "length"}, {}, "cut_short"),
        ({}, {"message": {"role": "assistant", "content": " "}}, "empty_output"),
        ({}, {"message": {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}}, "tool_calls"),
    ],
)
def test_what_is_worth_a_look(first: dict[str, Any], second: dict[str, Any], flaw: str | None) -> None:
    def completion(text: str, changes: dict[str, Any]) -> Completion:
        message = {"role": "assistant", "content": text}
        return Completion(choices=[{"index": 0, "message": message, "finish_reason": "stop"} | changes])

    assert flaw_of(completion("yes", first), completion("no", second)) == flaw
