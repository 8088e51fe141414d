"""`alignway users export`: give out what is stored about a user."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.access.secrets import Secrets
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json
from gateway.commands.workplace import with_database
from gateway.privacy.user_export import export_user
from gateway.settings import Settings
from gateway.storage.audit import COMMAND_LINE, write_audit
from gateway.storage.database import Database
from gateway.storage.keys import ensure_root_secret

app = typer.Typer(help="What is stored about a user.", no_args_is_help=True)


@app.callback()
def users() -> None:
    """What is stored about a user."""


@app.command("export")
def export(
    user: Annotated[str, typer.Argument(help="The name that clients send as user, safety_identifier or rater.id.")],
    project: Annotated[str | None, typer.Option(help="In this project alone (id or name); default: in all.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the document there instead of printing it.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything about a user as one JSON document: completions, votes, pairs, usage, and where they were used."""

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        async with database.write() as session:
            secrets = Secrets(await ensure_root_secret(session))
        document = await export_user(database, settings.store_path, secrets, user, project)
        async with database.write() as session:
            subject = document["end_user_hash"]
            await write_audit(session, actor=COMMAND_LINE, action="user.exported", subject=subject)
        return document

    document = with_database(config, data_dir, work)
    if output is None:
        print_json(document)
        return
    output.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    counts = {name: len(document[name]) for name in ("completions", "votes", "pairs")}
    if as_json:
        print_json({"file": str(output), **counts})
    else:
        console.print(f"{output}: " + ", ".join(f"{number} {name}" for name, number in counts.items()) + ".")
