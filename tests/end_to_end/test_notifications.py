"""A vote tagged harmful reaches a chat program, from `POST /v1/feedback` on, on each kind of database."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from gateway.contracts.release import GateResult
from tests.gateway.notify.receiver import Receiver
from tests.patience import patient
from tests.stack import running, stack_settings


async def test_people_hear_of_a_harmful_answer_within_two_seconds(database_url: str, tmp_path: Path) -> None:
    receiver = Receiver()
    runner = await receiver.start()
    hook = f"{receiver.url}/services/T000/B000/s3cr3t-s3cr3t"
    notify: dict[str, Any] = {"targets": [{"url": hook, "kind": "slack", "name": "on-call"}]}
    try:
        async with running(stack_settings(tmp_path, database_url, notify=notify)) as stack:
            answer = await stack.ask("how do I mix these two?")
            vote = {
                "type": "rating",
                "name": "thumbs",
                "value": False,
                "target": {"completion_id": answer.id},
                "tags": ["Harmful", "rude"],
            }
            begun = time.monotonic()
            status, reply = await stack.call("POST", "/v1/feedback", vote)
            assert status == 201, reply
            while not receiver.bodies:
                assert time.monotonic() - begun < patient(2), stack.logs()
                await asyncio.sleep(0.02)
            [message] = receiver.messages
            assert f"vote is {reply['id']}" in message["text"]
            assert "alignway releases rollback --alias assistant --reason" in message["text"]
            assert "tagged Harmful." in message["text"]

            blocked = GateResult(gate="holdout_accuracy", verdict="block", value=0.4, limit=0.5, reason="worse")
            release = await stack.make_release("WORSE", gates=(blocked,), state="rejected")

            async def told() -> bool:
                _, listed = await stack.call("GET", "/admin/v1/notifications")
                states = [one["deliveries"][0]["state"] for one in listed["data"] if one["deliveries"]]
                return states == ["delivered", "delivered"]

            await stack.until(told, 5.0)
            assert f"release {release.name} of `assistant` was rejected" in receiver.messages[1]["text"]
            assert "Why: holdout_accuracy: worse." in receiver.messages[1]["text"]
            _, page = await stack.call("GET", "/admin/v1/notifications?limit=1")
            assert (page["data"][0]["event"], page["has_more"]) == ("gate_failed", True)
            _, rest = await stack.call("GET", f"/admin/v1/notifications?after={page['last_id']}")
            assert [one["event"] for one in rest["data"]] == ["harmful_vote"]
            assert "s3cr3t" not in stack.logs(1_000_000) + str(rest)
    finally:
        await runner.cleanup()


async def test_what_a_killed_gateway_had_not_finished_sending_arrives(sqlite_url: str, tmp_path: Path) -> None:
    """kill -9 while the target keeps the gateway waiting: whoever comes next sends the same message again."""
    receiver = Receiver(hangs=True)
    runner = await receiver.start()
    notify = {"urls": [receiver.url], "timeout_seconds": 1.0}
    try:
        async with running(stack_settings(tmp_path, sqlite_url, notify=notify)) as stack:
            answer = await stack.ask("is this safe?")
            vote = {"type": "rating", "name": "thumbs", "value": False, "target": {"completion_id": answer.id}}
            status, reply = await stack.call("POST", "/v1/feedback", vote | {"tags": ["harmful"]})
            assert status == 201, reply
            while not receiver.bodies:
                await asyncio.sleep(0.01)
            gateway = stack.supervisor.pid("gateway-1")
            assert gateway is not None
            os.kill(gateway, signal.SIGKILL)
            receiver.hangs = False

            async def delivered() -> bool:
                with suppress(aiohttp.ClientError):
                    _, listed = await stack.call("GET", "/admin/v1/notifications")
                    return bool(listed["data"][0]["deliveries"][0]["state"] == "delivered")
                return False

            await stack.until(delivered, 30.0)
            assert len(receiver.bodies) == 2
            assert receiver.bodies[0] == receiver.bodies[1]
    finally:
        await runner.cleanup()
