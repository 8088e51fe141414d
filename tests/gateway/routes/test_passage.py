"""What is passed on and recorded nowhere is tried again, counted and judged as chats are: real services and sockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.access.caller import Caller
from gateway.app import build_services, close_services
from gateway.errors import UpstreamError
from gateway.routes.passage import Asked, Passage
from gateway.routing.drain import Drain
from gateway.routing.freshness import Freshness
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView, Target
from gateway.routing.table import RoutingTable
from gateway.services import Services
from gateway.settings import Settings
from gateway.telemetry.meter import Meter
from tests.end_to_end.engine_stub import Call, StubEngine, stub_engine

CALLER = Caller("key_1", "proj_1", frozenset({"inference"}), "test")
RELEASES = {name: ReleaseView(name, f"name-{name}", "assistant") for name in ("rel_old", "rel_new")}
REPLY = {"choices": [{"index": 0, "text": "upon", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}


@pytest.fixture
async def engine() -> AsyncIterator[StubEngine]:
    async with stub_engine() as made:
        made.behaviour = lambda call: call.reply(REPLY)
        yield made


@pytest.fixture
async def services(tmp_path: Path, sqlite_url: str, engine: StubEngine) -> AsyncIterator[Services]:
    settings = Settings.model_validate({"data_dir": tmp_path, "database": {"url": sqlite_url}})
    made = await build_services(settings, Drain())
    made.pool.apply(table(engine.url, "rel_old"))
    yield made
    await close_services(made)


def table(url: str, weights: str) -> RoutingTable:
    replica = ReplicaView("r1", "assistant", url, True, False, 1, weights, frozenset(), weights_name=f"as-{weights}")
    return RoutingTable(1, {"assistant": AliasView("assistant", weights)}, RELEASES, (replica,))


async def passed_on(services: Services, prompt: str = "Once") -> str:
    """The name of the release that answered."""

    def body(engine_model: str) -> dict[str, Any]:
        return {"model": engine_model, "prompt": prompt}

    asked = Asked("cmpl-1", "assistant", "chat", "/v1/completions", "text_completion", body, prompt, None, 1)
    passage = await Passage.admitted(services, CALLER, asked, None)

    def read(reply: dict[str, Any], target: Target) -> dict[str, Any]:
        return {"usage": reply["usage"], "release": target.release.name}

    return str((await passage.whole(read))["release"])


def meters(services: Services) -> dict[str, Meter]:
    return {release: meter for (_, release, _), meter in services.metrics._meters.items()}


async def test_a_table_that_went_stale_while_connecting_is_not_sent_by(
    services: Services, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    services.pool.freshness = Freshness(lambda: now[0])
    services.pool.freshness.confirm(0.0)
    connect = aiohttp.TCPConnector.connect

    async def stopped_meanwhile(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        now[0] = 60.0  # the process stood still; its lease lapsed, and the weights were exchanged without it
        asyncio.get_running_loop().call_later(0.05, read_again)
        return connection

    def read_again() -> None:
        services.pool.apply(table(engine.url, "rel_new"))
        services.pool.freshness.confirm(now[0])
        services.pool.freshness.attempted(now[0])

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", stopped_meanwhile)
    assert await asyncio.wait_for(passed_on(services), 5) == "name-rel_new"
    assert [call.body["model"] for call in engine.calls] == ["as-rel_new"]
    assert services.pool.in_flight["r1"] == 0
    assert services.pool.circuits() == {"r1": "closed"}
    found = meters(services)
    assert (found["name-rel_old"].in_flight, found["name-rel_old"].outcomes) == (0, {})
    assert (found["name-rel_new"].in_flight, found["name-rel_new"].outcomes) == (0, {"finished": 1})


async def test_a_request_that_its_engine_cannot_bear_cuts_off_nobody_else(
    services: Services, engine: StubEngine
) -> None:
    async def break_over_poison(call: Call) -> None:
        if call.body["prompt"] == "Once":
            await call.reply(REPLY)
        else:
            await call.refuse(500)

    engine.behaviour = break_over_poison
    for number in range(20):
        with pytest.raises(UpstreamError):
            await passed_on(services, f"poison {number % 2}")
    assert await passed_on(services) == "name-rel_old"


async def test_an_engine_that_fails_at_whatever_is_asked_is_cut_off(services: Services, engine: StubEngine) -> None:
    engine.behaviour = lambda call: call.refuse(500)
    for number in range(5):
        assert services.pool.circuits() == {"r1": "closed"}
        with pytest.raises(UpstreamError):
            await passed_on(services, f"prompt {number}")
    assert services.pool.circuits() == {"r1": "open"}
