"""However an exchange ends, its books are right: real services and a real engine's socket, in this process."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from gateway.access.caller import Caller
from gateway.app import build_services, close_services
from gateway.engines.upstream import Origin
from gateway.errors import AlignwayError
from gateway.relay.exchange import ChatExchange
from gateway.routing.drain import Drain
from gateway.routing.freshness import Freshness
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView
from gateway.routing.table import RoutingTable
from gateway.services import Services
from gateway.settings import Settings
from gateway.storage.feedback_tables import Completion
from gateway.wire.chat import parse_chat_request
from tests.end_to_end.engine_stub import Call, StubEngine, delta, never, stub_engine

CALLER = Caller("key_1", "proj_1", frozenset({"inference"}), "test")
RELEASES = {name: ReleaseView(name, f"name-{name}", "assistant") for name in ("rel_old", "rel_new")}


class Outlet:
    """Where the answer goes, and how often it ended."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.ends: list[AlignwayError | None] = []
        self.ended = asyncio.Event()

    def whole(self, body: bytes) -> None:
        self.end(body)

    def event(self, data: bytes) -> None:
        self.said.append(data)

    def end(self, data: bytes) -> None:
        self.said.append(data)
        self.ends.append(None)
        self.ended.set()

    def failed(self, error: AlignwayError) -> None:
        self.ends.append(error)
        self.ended.set()


@pytest.fixture
async def engine() -> AsyncIterator[StubEngine]:
    async with stub_engine() as made:
        yield made


@pytest.fixture
async def services(tmp_path: Path, sqlite_url: str, engine: StubEngine) -> AsyncIterator[Services]:
    settings = Settings.model_validate({"data_dir": tmp_path, "database": {"url": sqlite_url}})
    made = await build_services(settings, Drain())
    made.pool.apply(table(engine.url, "rel_old"))
    yield made
    await close_services(made)


def table(url: str, weights: str, kind: str = "url") -> RoutingTable:
    name = f"as-{weights}"
    replica = ReplicaView("r1", "assistant", url, True, False, 1, weights, frozenset(), weights_name=name, kind=kind)
    return RoutingTable(1, {"assistant": AliasView("assistant", weights)}, RELEASES, (replica,))


async def begin(services: Services, **fields: Any) -> tuple[ChatExchange, Outlet]:
    body = {"model": "assistant", "messages": [{"role": "user", "content": "x" * 400}], "stream": True} | fields
    request, outlet = parse_chat_request(json.dumps(body).encode(), services.settings.surface), Outlet()
    admission = await services.limiter.admit(CALLER, 0)
    exchange = ChatExchange(services, CALLER, request, admission, outlet)
    exchange.start()
    return exchange, outlet


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_whoever_leaves_before_the_engine_has_counted_pays_for_what_was_said(
    services: Services, engine: StubEngine
) -> None:
    async def two_words(call: Call) -> None:
        await call.say(delta("one"), delta(" and then quite some more"))
        await never(call)

    engine.behaviour = two_words
    exchange, outlet = await begin(services)
    await until(lambda: b"more" in b"".join(outlet.said))
    exchange.leave()
    (requests, prompt_tokens, completion_tokens), *others = services.limiter._usage.take().values()
    assert not others
    assert requests == 1
    assert 100 <= prompt_tokens <= 120  # 400 characters and their message
    assert completion_tokens == 1 + 7  # one for a short piece, a quarter of 25 characters for the other
    assert services.pool.in_flight["r1"] == 0


async def test_what_goes_wrong_in_the_books_keeps_no_answer_back(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of ink")

    monkeypatch.setattr(services.request_log, "wants", broken)
    _, outlet = await begin(services)
    await asyncio.wait_for(outlet.ended.wait(), 5)
    await asyncio.sleep(0.05)
    assert outlet.ends == [None]
    assert services.metrics.unrecorded.times == 1
    assert b"".join(outlet.said).endswith(b"data: [DONE]\n\n")
    assert services.pool.in_flight["r1"] == 0


async def test_a_client_that_leaves_while_its_record_is_written_leaves_one_record(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[Any, Any]] = []
    write = services.completions.write
    monkeypatch.setattr(services.completions, "write", lambda row, done: held.append((row, done)))
    exchange, outlet = await begin(services)
    await until(lambda: held)
    exchange.leave()
    (row, done), *others = held
    assert not others
    write(row, done)
    await asyncio.wait_for(outlet.ended.wait(), 5)
    async with services.database.read() as session:
        assert list(await session.scalars(select(Completion.status))) == ["finished"]
    assert services.metrics.unrecorded.times == 0


async def test_a_slow_client_holds_an_engine_back_whose_answer_is_mended(
    services: Services, engine: StubEngine
) -> None:
    poured = 0

    async def pour(call: Call) -> None:
        nonlocal poured
        while True:
            await call.say(delta("y" * 65536))
            poured += 1

    engine.behaviour = pour
    services.pool.apply(table(engine.url, "rel_old", kind="lmdeploy"))
    exchange, outlet = await begin(services, stop=["never said"])
    await until(lambda: outlet.said)
    exchange.pause()
    before, said, looks = -1, len(outlet.said), 0
    while (poured, len(outlet.said)) != (before, said):  # what fits in the sockets' buffers goes on
        looks += 1
        assert looks < 10, "the engine went on speaking"
        before, said = poured, len(outlet.said)
        await asyncio.sleep(0.5)
    exchange.resume()
    await until(lambda: len(outlet.said) > said + 10)
    exchange.leave()
    await asyncio.wait_for(engine.calls[0].cancelled.wait(), 2)


@pytest.mark.parametrize(("kind", "client"), [("url", Origin), ("lmdeploy", aiohttp.TCPConnector)])
async def test_a_table_that_went_stale_while_connecting_is_not_sent_by(
    services: Services, engine: StubEngine, monkeypatch: pytest.MonkeyPatch, kind: str, client: type[Any]
) -> None:
    now = [0.0]
    services.pool.apply(table(engine.url, "rel_old", kind))
    services.pool.freshness = Freshness(lambda: now[0])
    services.pool.freshness.confirm(0.0)
    connect = client.connect

    async def stopped_meanwhile(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        now[0] = 60.0  # the process stood still; its lease lapsed, and the weights were exchanged without it
        asyncio.get_running_loop().call_later(0.05, read_again)
        return connection

    def read_again() -> None:
        services.pool.apply(table(engine.url, "rel_new", kind))
        services.pool.freshness.confirm(now[0])
        services.pool.freshness.attempted(now[0])

    monkeypatch.setattr(client, "connect", stopped_meanwhile)
    _, outlet = await begin(services, stop=["never said"])  # which LMDeploy's dialect mends
    await asyncio.wait_for(outlet.ended.wait(), 5)
    assert [call.body["model"] for call in engine.calls] == ["as-rel_new"]
    assert outlet.ends == [None]
    assert b'"model":"name-rel_new"' in b"".join(outlet.said)
    assert services.pool.in_flight["r1"] == 0
