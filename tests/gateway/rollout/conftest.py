"""Fixtures: an alias, its releases and its replica, on each kind of database."""

import pytest

from gateway.storage.database import Database
from tests.gateway.rollout.served import Served


@pytest.fixture
async def served(database: Database) -> Served:
    """One alias over one replica."""
    served = Served(database)
    await served.prepare()
    return served
