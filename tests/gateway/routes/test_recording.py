"""A record is begun once, outlives its request, and whatever goes wrong in it the answer is sent and counted."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from gateway.access.caller import Caller
from gateway.access.secrets import Secrets
from gateway.contracts.ids import COMPLETION, mint
from gateway.metrics import Metrics
from gateway.routes.exchange import Exchange
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView
from gateway.routing.pool import Pool
from gateway.routing.table import RoutingTable
from gateway.settings import SwapSettings
from gateway.storage.completions import CompletionRecorder
from gateway.storage.database import Database
from gateway.storage.tables import Completion
from gateway.wire.chat import parse_chat_request

BODY = b'{"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}'


class Engines:
    """Answers every request with one word."""

    async def complete(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}


def services(recorder: CompletionRecorder) -> Any:
    pool = Pool(SwapSettings())
    release = ReleaseView("rel_1", "assistant-1", "assistant")
    replica = ReplicaView("r1", "assistant", "http://r1", True, False, 1, "rel_1", frozenset())
    pool.apply(RoutingTable(1, {"assistant": AliasView("assistant", "rel_1")}, {"rel_1": release}, (replica,)))
    return SimpleNamespace(
        pool=pool, engines=Engines(), metrics=Metrics(), completions=recorder, secrets=Secrets("root")
    )


def exchange(parts: Any) -> Exchange:
    return Exchange(parts, Caller("key_1", "proj_1", frozenset()), parse_chat_request(BODY))


def unrecorded(parts: Any) -> float:
    return float(parts.metrics.registry.get_sample_value("alignway_completions_unrecorded_total"))


async def recorded(database: Database) -> list[str]:
    async with database.read() as session:
        return list(await session.scalars(select(Completion.status)))


async def test_a_request_cancelled_while_it_records_is_recorded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = CompletionRecorder(database)
    parts = services(recorder)
    reached, go_on = asyncio.Event(), asyncio.Event()
    submit = recorder._commits.submit

    async def slowly(operation: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await submit(operation)

    monkeypatch.setattr(recorder._commits, "submit", slowly)
    asking = asyncio.create_task(exchange(parts).complete())
    await reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    closing = asyncio.create_task(recorder.close())  # waits for what is outstanding
    await asyncio.sleep(0.01)
    go_on.set()
    await closing
    assert await recorded(database) == ["finished"]
    assert unrecorded(parts) == 0


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("another")])
async def test_an_answer_is_sent_whatever_goes_wrong_with_its_record(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    recorder = CompletionRecorder(database)
    parts = services(recorder)

    async def fail(_: Any) -> None:
        raise error

    monkeypatch.setattr(recorder._commits, "submit", fail)
    reply = await exchange(parts).complete()
    assert reply["choices"][0]["message"]["content"] == "hello"
    await asyncio.sleep(0)
    assert unrecorded(parts) == 1


async def test_a_row_that_cannot_be_made_is_counted_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = CompletionRecorder(database)
    parts = services(recorder)
    monkeypatch.setattr(Exchange, "_row", lambda *_: {}["missing"])
    assert (await exchange(parts).complete())["usage"]["total_tokens"] == 0
    await asyncio.sleep(0)
    assert unrecorded(parts) == 1


async def test_tuples_and_nul_are_stored(database: Database) -> None:
    recorder = CompletionRecorder(database)
    row = {
        "id": mint(COMPLETION),
        "project_id": "proj_1",
        "key_id": "key_1",
        "alias": "assistant",
        "release_id": "rel_1",
        "status": "finished",
        "prompt_hash": "ph_1",
        "messages": ({"role": "user", "content": ("a\0b", {"nested\0": ("c\0",)})},),
        "parameters": {"stop": ("\0",)},
        "choices": [],
        "usage": {},
        "created_at": time.time(),
        "total_seconds": 1.0,
        "call_metadata": {},
    }
    assert await recorder.record(lambda: row)
    await recorder.close()
    async with database.read() as session:
        stored = await session.get_one(Completion, row["id"])
    assert stored.messages == [{"role": "user", "content": ["a\ufffdb", {"nested\ufffd": ["c\ufffd"]}]}]
    assert stored.parameters == {"stop": ["\ufffd"]}
