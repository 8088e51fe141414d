"""A vote may come before its completion is stored; it waits a moment, but not for ever."""

import asyncio
import time
from typing import Any

import pytest

from gateway.feedback.bodies import parse_body
from gateway.feedback.targets import CompletionNotStored, wait_for_targets
from gateway.settings import FeedbackSettings
from tests.patience import patient


def vote(*ids: str) -> Any:
    chosen, *rejected = [{"completion_id": completion_id} for completion_id in ids]
    return parse_body({"type": "preference", "chosen": chosen, "rejected": rejected})


def waiting_for(seconds: float) -> FeedbackSettings:
    return FeedbackSettings(completion_wait_seconds=seconds)


async def test_a_stored_completion_is_not_waited_for(desk: Any) -> None:
    body = vote(await desk.complete("No."), await desk.complete("Yes."))
    await asyncio.wait_for(wait_for_targets(desk.database, desk.caller, body, waiting_for(60)), timeout=1)


async def test_a_completion_that_is_still_being_written_is_waited_for(desk: Any) -> None:
    body = vote(await desk.complete("No."), "chatcmpl-late")
    waiting = asyncio.create_task(wait_for_targets(desk.database, desk.caller, body, waiting_for(10)))
    await asyncio.sleep(0.15)
    assert not waiting.done()
    await desk.complete("Yes.", id="chatcmpl-late")
    await asyncio.wait_for(waiting, timeout=patient(1))


async def test_a_completion_that_never_comes_is_not_stored(desk: Any) -> None:
    body = vote(await desk.complete("No."), "chatcmpl-never")
    begun = time.monotonic()
    with pytest.raises(CompletionNotStored, match="chatcmpl-never"):
        await wait_for_targets(desk.database, desk.caller, body, waiting_for(0.2))
    assert 0.2 <= time.monotonic() - begun < patient(0.2)


async def test_an_import_waits_for_nothing(desk: Any) -> None:
    body = parse_body({"type": "pair", "source": "s", "licence": "l", "pairs": [1]})
    await wait_for_targets(desk.database, desk.caller, body, waiting_for(60))
