"""Fixtures: an office with a queue, on each kind of database, and a judge's endpoint."""

from collections.abc import AsyncIterator

import pytest

from gateway.storage.database import Database
from tests.gateway.annotation.endpoint import Endpoint, listening
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
    async with listening() as endpoint:
        yield endpoint
