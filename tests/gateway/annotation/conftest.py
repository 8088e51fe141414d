"""Fixtures: an office with a queue, on each kind of database."""

import pytest

from gateway.storage.database import Database
from tests.gateway.annotation.office import Office


@pytest.fixture
async def office(database: Database) -> Office:
    """A project with an empty queue."""
    office = Office(database)
    await office.furnish()
    return office
