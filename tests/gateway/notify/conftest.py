"""Fixtures: receivers on loopback."""

from collections.abc import AsyncIterator

import pytest

from gateway.storage.database import Database
from tests.gateway.notify.receiver import Receiver
from tests.gateway.rollout.served import Served


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """One that takes every message."""
    receiver = Receiver()
    runner = await receiver.start()
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def second() -> AsyncIterator[Receiver]:
    """Another one."""
    receiver = Receiver()
    runner = await receiver.start()
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def served(database: Database) -> Served:
    """One alias over one replica."""
    served = Served(database)
    await served.prepare()
    return served
