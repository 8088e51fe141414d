"""`alignway aligner`: the aligner alone, for hosts that train and serve nothing."""

import os

from gateway.commands.options import ConfigOption, DataDirOption, JsonOption
from gateway.commands.serving import aligner_spec
from gateway.commands.workplace import with_database
from gateway.settings import Settings
from gateway.storage.database import Database


def aligner(config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Carry out the training runs that are asked for, until Ctrl-C. Its log is JSON, with or without --json."""
    settings = with_database(config, data_dir, _settings)
    spec = aligner_spec(settings)
    command = [part for part in spec.command if part != "--lifeline"]
    os.execvpe(command[0], command, {**os.environ, **spec.environment})


async def _settings(_: Database, settings: Settings) -> Settings:
    """The settings, once the database has been brought up to date."""
    return settings
