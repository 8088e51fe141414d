"""An open database for a command that works on the records directly, without a running gateway."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from gateway.commands.configuration import load_settings
from gateway.errors import StartupFailed
from gateway.settings import Settings
from gateway.storage.database import Database
from gateway.storage.migrate import migrate

T = TypeVar("T")


def with_database(config: Path | None, data_dir: Path | None, work: Callable[[Database, Settings], Awaitable[T]]) -> T:
    """Run `work` on the database that the settings name, migrated; creates the data directory if need be."""
    settings = load_settings(config, {"data_dir": data_dir})

    async def run() -> T:
        database = Database(settings.database_url)
        try:
            await migrate(database)
            return await work(database, settings)
        finally:
            await database.close()

    make_data_dir(settings)
    return asyncio.run(run())


def make_data_dir(settings: Settings) -> None:
    """Create the data directory, or say why that cannot be."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        settings.store_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupFailed(
            f"The data directory {settings.data_dir} cannot be made: {error}. Use --data-dir."
        ) from error
