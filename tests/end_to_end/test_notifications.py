"""A vote tagged harmful reaches a chat program, from `POST /v1/feedback` on, on each kind of database."""

import asyncio
import time
from pathlib import Path
from typing import Any

from gateway.contracts.release import GateResult
from tests.gateway.notify.receiver import Receiver
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
                assert time.monotonic() - begun < 2.0, stack.logs()
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
