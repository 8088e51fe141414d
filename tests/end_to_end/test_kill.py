"""kill -9 of any process at a random moment of a promotion under votes: everything heals, no vote is lost."""

import asyncio
import contextlib
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import func, select

from gateway.storage.feedback_tables import Feedback, PairRow
from gateway.storage.tables import Alias, Replica
from tests.stack import Stack, running, stack_settings

KILLS = 5
LANES = 4


async def vote_forever(stack: Stack, acknowledged: set[str], seed: int) -> None:
    """Ask and vote; what fails is tried again as a client would, what is acknowledged is remembered."""
    number = 0
    while True:
        number += 1
        with contextlib.suppress(openai.OpenAIError):
            reply = await stack.ask(f"question {seed} {number}", n=2, max_tokens=12)
            body = {
                "type": "preference",
                "verdict": "prefer",
                "chosen": {"completion_id": reply.id, "index": 0},
                "rejected": [{"completion_id": reply.id, "index": 1}],
            }
            vote: Any = await stack.client.with_options(max_retries=3).post("/feedback", body=body, cast_to=object)
            acknowledged.add(vote["id"])
        await asyncio.sleep(0.02)


async def kill(stack: Stack, victim: str) -> None:
    """kill -9, as soon as the victim is there: it may be starting again after the last time."""
    engine_record = stack.settings.data_dir / "engines" / "assistant-1.json"

    async def killed() -> bool:
        if victim == "engine":
            pid = int(json.loads(engine_record.read_text())["pid"]) if engine_record.exists() else None
        else:
            pid = stack.supervisor.pid(victim)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    await stack.until(killed)


@pytest.mark.parametrize("victim", ["gateway-1", "engine-agent", "engine"])
async def test_everything_heals_and_no_acknowledged_vote_is_missing(
    tmp_path: Path, sqlite_url: str, victim: str
) -> None:
    chance = random.Random(victim)
    async with running(stack_settings(tmp_path, sqlite_url, server={"workers": 2})) as stack:
        releases = [(await stack.make_release(marker)).id for marker in ("ONE", "TWO")]
        acknowledged: set[str] = set()
        lanes = [asyncio.create_task(vote_forever(stack, acknowledged, lane)) for lane in range(LANES)]
        serving = ""
        for number in range(KILLS):
            serving = releases[number % 2]
            rollout = await promote_until_accepted(stack, serving)
            await asyncio.sleep(chance.uniform(0.0, 0.8))
            await kill(stack, victim)
            state = await ended_whatever_happens(stack, rollout)
            if state != "promoted":  # an engine killed in the middle of an exchange: the incumbent serves on
                rollout = await promote_until_accepted(stack, serving)
                assert await ended_whatever_happens(stack, rollout) == "promoted"
        await stack.until(stack.ready)
        before = len(acknowledged)
        await stack.until(lambda: more_than(acknowledged, before))
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        await check_records(stack, acknowledged, serving)


async def test_a_hung_engine_is_replaced_and_its_request_answered_by_the_release_that_serves(
    tmp_path: Path, sqlite_url: str
) -> None:
    settings = stack_settings(tmp_path, sqlite_url)
    engine = settings.models[0].engine.model_copy(update={"hung_seconds": 1.0})
    model = settings.models[0].model_copy(update={"engine": engine})
    async with running(settings.model_copy(update={"models": (model,)})) as stack:
        release = await stack.make_release("BETTER")
        assert (await stack.ended((await stack.promote(release.id))["id"]))["state"] == "promoted"
        record = json.loads((stack.settings.data_dir / "engines" / "assistant-1.json").read_text())
        os.kill(record["pid"], signal.SIGSTOP)
        reply = await stack.ask("hello")  # held by the process that hangs, then by nobody, then by its successor
        assert (reply.choices[0].message.content.split()[0], reply.system_fingerprint) == ("BETTER", release.id)
        _, replicas = await stack.call("GET", "/admin/v1/replicas")
        assert [row["restarts"] for row in replicas["data"]] == [1]
        _, told = await stack.call("GET", "/admin/v1/notifications")
        assert [one["event"] for one in told["data"]].count("engine_hung") == 1


async def more_than(votes: set[str], number: int) -> bool:
    return len(votes) > number


async def promote_until_accepted(stack: Stack, release: str) -> str:
    accepted: dict[str, Any] = {}

    async def ask() -> bool:
        nonlocal accepted
        try:
            status, accepted = await stack.call(
                "POST", "/admin/v1/aliases/assistant/promote", {"release": release, "reason": "test"}
            )
        except Exception:
            return False
        assert status in (202, 409, 503), accepted
        return status == 202 or accepted.get("error", {}).get("code") == "rollout_in_progress"

    await stack.until(ask)
    if "id" in accepted:
        return str(accepted["id"])
    _, rollouts = await stack.call("GET", "/admin/v1/rollouts")  # the lost answer of an earlier try had come through
    return str(rollouts["data"][0]["id"])


async def ended_whatever_happens(stack: Stack, rollout_id: str) -> str:
    state = ""

    async def over() -> bool:
        nonlocal state
        try:
            _, rollout = await stack.call("GET", f"/admin/v1/rollouts/{rollout_id}")
        except Exception:
            return False
        state = str(rollout.get("state"))
        return state in ("promoted", "rolled_back", "stopped")

    await stack.until(over, 60)
    return state


async def check_records(stack: Stack, acknowledged: set[str], serving: str) -> None:
    async with stack.database.read() as session:
        stored = set(await session.scalars(select(Feedback.id)))
        doubled = await session.scalar(
            select(func.count()).select_from(
                select(PairRow.feedback_id).group_by(PairRow.feedback_id).having(func.count() > 1).subquery()
            )
        )
        alias = await session.get_one(Alias, "assistant")
        replica = await session.get_one(Replica, "assistant-1")
    assert len(acknowledged) > 10
    assert acknowledged <= stored
    assert doubled == 0
    assert alias.serving_release_id == serving
    assert replica.weights_release_id == serving
    answer = await stack.ask("who are you?")
    assert answer.system_fingerprint == serving
    assert ("ONE" in answer.choices[0].message.content) != ("TWO" in answer.choices[0].message.content)
