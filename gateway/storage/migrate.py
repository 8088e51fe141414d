"""Bring a database to the newest schema. Safe when several processes start at once: the first one does it."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from gateway.storage.database import Database

ATTEMPTS = 8
PAUSE_SECONDS = 0.25
_ADVISORY_LOCK = 0x616C6967  # "alig": one migration at a time on PostgreSQL


def alembic_config(connection: Connection) -> Config:
    """Alembic's settings for an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


async def migrate(database: Database) -> None:
    """Apply every migration that the database does not have yet."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await _migrate_once(database)
        except OperationalError:
            # SQLite refuses at once, without waiting, while another process turns a new file's journal on.
            if database.dialect != "sqlite" or attempt == ATTEMPTS:
                raise
            await asyncio.sleep(PAUSE_SECONDS * attempt)
        else:
            return


async def _migrate_once(database: Database) -> None:
    async with database.engine("durable").begin() as connection:
        if database.dialect == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    config = alembic_config(connection)
    newest = ScriptDirectory.from_config(config).get_current_head()
    if MigrationContext.configure(connection).get_current_revision() != newest:
        command.upgrade(config, "head")
