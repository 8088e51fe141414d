"""Fixtures: an office with a queue, on each kind of database, and a judge's endpoint."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.storage.database import Database
from tests.gateway.annotation.endpoint import Endpoint
from tests.gateway.annotation.office import Office


@pytest.fixture
async def office(database: Database) -> Office:
    """A project with an empty queue."""
    office = Office(database)
    await office.furnish()
    return office


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """A judge that listens."""
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", endpoint.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield endpoint
    await runner.cleanup()
