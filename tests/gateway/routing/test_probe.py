"""Engines without an agent: asked for their health, left out after two failures, back after one success."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.bootstrap import ResolvedModel
from gateway.commands.serving import prepare
from gateway.routing.pool import CircuitOpen, Pool
from gateway.routing.probe import Prober, Record, probe
from gateway.routing.sync import RoutingSync
from gateway.settings import PoolSettings, Settings, SwapSettings
from gateway.storage.database import Database
from tests.loopback import listening
from tests.stack import base_ref

QUICK = PoolSettings(probe_seconds=0.05, probe_timeout_seconds=0.3)


class Engine:
    """A server whose health a test sets; `status` 0: it does not answer."""

    def __init__(self) -> None:
        self.url, self.asked, self.status, self.models = "", 0, 200, 200

    async def health(self, _: web.Request) -> web.Response:
        self.asked += 1
        if not self.status:
            await asyncio.Event().wait()
        return web.Response(status=self.status)

    async def list_models(self, _: web.Request) -> web.Response:
        return web.Response(status=self.models)


@asynccontextmanager
async def served() -> AsyncIterator[Engine]:
    engine, app = Engine(), web.Application()
    app.router.add_get("/health", engine.health)
    app.router.add_get("/v1/models", engine.list_models)
    async with listening(app) as engine.url:
        yield engine


def test_two_failures_in_a_row_take_an_engine_out_and_one_success_takes_it_back() -> None:
    record = Record(max_failures=2)
    looks = [("refused", None), (None, None), ("refused", None), ("refused", False)]
    for trouble, verdict in looks:
        assert record.verdict(True, trouble) is verdict
    assert record.verdict(False, "refused") is None
    assert record.verdict(False, None) is True


@pytest.mark.parametrize(
    ("health", "models", "well"),
    [(200, 200, True), (404, 200, True), (404, 404, True), (503, 200, False), (500, 200, False), (404, 500, False)],
)
async def test_a_server_error_is_trouble_and_a_missing_route_is_not(health: int, models: int, well: bool) -> None:
    async with served() as engine:
        engine.status, engine.models = health, models
        assert (await probe(engine.url, 1.0) is None) is well


async def test_silence_and_a_refused_connection_are_trouble() -> None:
    async with served() as engine:
        engine.status = 0
        assert "did not answer /health within 0.1 s" in (await probe(engine.url, 0.1) or "")
        url = engine.url
    assert "cannot be reached" in (await probe(url, 1.0) or "")


@asynccontextmanager
async def worker(database_url: str) -> AsyncIterator[Pool]:
    """What a gateway worker runs of the pool."""
    database, pool = Database(database_url), Pool(SwapSettings(), QUICK)
    sync = RoutingSync(Database(database_url), pool)
    await sync.step()
    tasks = [asyncio.create_task(job.run()) for job in (sync, Prober(database, pool, QUICK, sync.worker_id))]
    try:
        yield pool
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await sync.leave()
        await database.close()


async def until_reachable(pool: Pool, *expected: str) -> None:
    async with asyncio.timeout(10):
        while {replica.id for replica in pool.table.replicas if replica.ready} != set(expected):
            await asyncio.sleep(0.02)


async def test_every_worker_leaves_a_sick_engine_out_and_takes_it_back_when_it_is_well(
    tmp_path: Path, database_url: str
) -> None:
    async with served() as one, served() as two:
        models = [{"engine": {"kind": "url", "urls": [one.url, two.url]}}]
        fields = {"data_dir": tmp_path, "admin_key": "k" * 20, "database": {"url": database_url}, "models": models}
        await prepare(Settings.model_validate(fields), {"assistant": ResolvedModel("", base_ref().model_dump(), "m")})
        async with worker(database_url) as first, worker(database_url) as second:
            two.status = 503
            for pool in (first, second):
                await until_reachable(pool, "assistant-1")
                lease = pool.try_take("assistant", b"")
                assert lease is not None
                assert (lease.target.url, lease.target.engine_model) == (one.url, "m")
            one.status = 503
            await until_reachable(first)
            with pytest.raises(CircuitOpen):
                first.try_take("assistant", b"")
            one.status = two.status = 200
            for pool in (first, second):
                await until_reachable(pool, "assistant-1", "assistant-2")
            assert first.try_take("assistant", b"") is not None


async def test_one_worker_probes_and_when_it_leaves_another_does(tmp_path: Path, database_url: str) -> None:
    async with served() as engine:
        models = [{"engine": {"kind": "url", "url": engine.url}}]
        fields = {"data_dir": tmp_path, "admin_key": "k" * 20, "database": {"url": database_url}, "models": models}
        await prepare(Settings.model_validate(fields), {"assistant": ResolvedModel("", base_ref().model_dump(), "m")})
        database, pool = Database(database_url), Pool(SwapSettings(), QUICK)
        async with worker(database_url) as other:
            await asyncio.sleep(0.2)
            before = engine.asked
            assert before > 0
            pool.apply(other.table)
            idle = Prober(database, pool, QUICK, "worker_idle")
            assert await idle._lease() is None
        after = engine.asked
        await idle.step()
        assert engine.asked == after + 1
        await database.close()
