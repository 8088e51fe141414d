"""Fixtures: a replica with everything around it, which no agent runs yet."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.storage.database import Database
from gateway.storage.migrate import migrate
from tests.gateway.agent.lab import Lab


@pytest.fixture
async def lab(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Lab]:
    """A replica that no agent runs yet, over SQLite."""
    database = Database(sqlite_url)
    await migrate(database)
    lab = Lab(tmp_path, database)
    await lab.prepare()
    yield lab
    lab.clear_up()
    await database.close()


@pytest.fixture
async def either_lab(database: Database, tmp_path: Path) -> AsyncIterator[Lab]:
    """The same on each kind of database."""
    lab = Lab(tmp_path, database)
    await lab.prepare()
    yield lab
    lab.clear_up()
