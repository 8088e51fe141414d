"""Every completion is recorded once, whoever leaves meanwhile; and whatever goes wrong in it, the answer is sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from sqlalchemy import select

from gateway.access.caller import Caller
from gateway.app import build_services, close_services
from gateway.relay.tally import Tally
from gateway.routes.exchange import Exchange
from gateway.routing.drain import Drain
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView
from gateway.routing.table import RoutingTable
from gateway.services import Services
from gateway.settings import Settings
from gateway.storage.completion_log import CompletionLog, CompletionRow
from gateway.storage.feedback_tables import Completion
from gateway.wire.chat import parse_chat_request
from tests.gateway.relay.served import WHOLE, RawEngine, in_chunks, raw_engine, with_length

CALLER = Caller("key_1", "proj_1", frozenset({"inference"}), "test")


@pytest.fixture
async def engine() -> AsyncIterator[RawEngine]:
    async with raw_engine() as made:
        yield made


@pytest.fixture
async def services(tmp_path: Path, database_url: str, engine: RawEngine) -> AsyncIterator[Services]:
    made = await build_services(
        Settings.model_validate({"data_dir": tmp_path, "database": {"url": database_url}}), Drain()
    )
    replica = ReplicaView("r1", "assistant", engine.url, True, False, 1, "rel_1", frozenset(), weights_name="weights")
    release = ReleaseView("rel_1", "assistant-1", "assistant")
    made.pool.apply(RoutingTable(1, {"assistant": AliasView("assistant", "rel_1")}, {"rel_1": release}, (replica,)))
    yield made
    with suppress(asyncio.CancelledError):
        await close_services(made)


def exchange(services: Services, **fields: Any) -> Exchange:
    body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]} | fields
    chat = parse_chat_request(json.dumps(body).encode(), services.settings.surface)
    return Exchange(services, CALLER, chat, Request({"type": "http", "headers": []}))


async def recorded(services: Services) -> list[Completion]:
    async with services.database.read() as session:
        return list(await session.scalars(select(Completion)))


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Set when a record is to be written, and what it waits for."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    write = CompletionLog.write

    def slowly(log: CompletionLog, row: CompletionRow, done: Callable[[bool], None]) -> None:
        async def later() -> None:
            await go_on.wait()
            write(log, row, done)

        reached.later = asyncio.ensure_future(later())  # type: ignore[attr-defined]
        reached.set()

    monkeypatch.setattr(CompletionLog, "write", slowly)
    return reached, go_on


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_request_left_while_it_records_is_recorded_as_finished(
    services: Services, held_back: tuple[asyncio.Event, asyncio.Event], stream: bool
) -> None:
    reached, go_on = held_back
    asking = asyncio.create_task(all_of(exchange(services, stream=stream), stream))
    await asyncio.wait_for(reached.wait(), 5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go_on.set()
    await reached.later  # type: ignore[attr-defined]
    await services.completions.close()
    (record,) = await recorded(services)
    assert record.status == "finished"
    assert record.choices[0]["message"]["content"] == "hello"
    assert services.metrics.unrecorded.times == 0


async def all_of(asked: Exchange, stream: bool) -> str:
    """The text of the answer."""
    if not stream:
        return str((await asked.complete())["choices"][0]["message"]["content"])
    choices = [choice async for chunk in asked.chunks() for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("owner", "name"), [(Tally, "_row"), (CompletionLog, "write")])
async def test_an_answer_is_sent_and_counted_whatever_goes_wrong_with_its_record(
    services: Services, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, stream: bool
) -> None:
    monkeypatch.setattr(owner, name, broken)
    assert await asyncio.wait_for(all_of(exchange(services, stream=stream), stream), 5) == "hello"
    assert services.metrics.unrecorded.times == 1
    assert services.pool.in_flight["r1"] == 0
    assert await recorded(services) == []


async def test_a_listener_that_fails_costs_no_other_its_record(services: Services) -> None:
    told: list[bool] = []
    write, rows = services.completions.write, []

    def note(row: CompletionRow, done: Callable[[bool], None]) -> None:
        rows.append(row)
        write(row, done)

    services.completions.write = note  # type: ignore[method-assign]
    assert await all_of(exchange(services), stream=False) == "hello"
    for number in range(3):
        done = broken if number == 1 else told.append
        write(rows[0]._replace(id=f"chatcmpl-{number}"), done)
    async with asyncio.timeout(5):
        while len(told) < 2:
            await asyncio.sleep(0.01)
    assert told == [True, True]
    assert await asyncio.wait_for(all_of(exchange(services), stream=False), 5) == "hello"
    assert len(await recorded(services)) == 5


async def test_nul_is_stored_as_a_replacement_character_and_its_spelling_left_alone(
    services: Services, engine: RawEngine
) -> None:
    spelled = "\\u0000"  # a backslash and five characters
    assert len(spelled) == 6
    odd = f"a\0b{spelled}c\\\0d\\{spelled}"

    async def echo(ask: Any) -> None:
        said = json.dumps(ask.body["messages"][0]["content"]).encode()
        whole = WHOLE.replace(b'"hello"', said)
        stream = b'data: {"choices":[{"index":0,"delta":{"content":%b},"finish_reason":"stop"}]}\n\n' % said
        await ask.say(in_chunks(stream + b"data: [DONE]\n\n") if ask.body.get("stream") else with_length(whole))

    engine.behaviour = echo
    fields = {"messages": [{"role": "user", "content": odd}], "stop": ["\0", spelled], "metadata": {"key": odd}}
    for stream in (False, True):
        assert await all_of(exchange(services, stream=stream, **fields), stream) == odd
    stored = odd.replace("\0", "\ufffd")
    for record in await recorded(services):
        assert record.messages == [{"role": "user", "content": stored}]
        assert record.choices[0]["message"]["content"] == stored
        assert record.parameters["stop"] == ["\ufffd", spelled]
        assert record.call_metadata == {"key": stored}
    assert len(await recorded(services)) == 2
    assert services.metrics.unrecorded.times == 0
