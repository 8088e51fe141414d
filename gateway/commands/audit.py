"""`alignway audit`: who made, changed and ended what."""

import json
from typing import Annotated, Any

import typer

from gateway.access.issue import moment
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json
from gateway.commands.workplace import with_database
from gateway.routes.views import audit_view
from gateway.settings import Settings
from gateway.storage.audit import list_audit
from gateway.storage.database import Database


def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    after: Annotated[str | None, typer.Option(help="Begin behind the entry of this id.")] = None,
    action: Annotated[str | None, typer.Option(help="Of this kind alone, such as key.revoked.")] = None,
    actor: Annotated[str | None, typer.Option(help="By this key alone (its id).")] = None,
    subject: Annotated[str | None, typer.Option(help="To this key, alias or run alone.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was done by operators, newest first: keys, promotions, rollbacks, training runs."""

    async def work(database: Database, _: Settings) -> list[dict[str, Any]]:
        async with database.read() as session:
            found = await list_audit(session, limit, behind=after, action=action, actor=actor, subject=subject)
        return [audit_view(entry) for entry in found]

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
        return
    for entry in found:
        who = f"{entry['actor_name']} ({entry['actor']})" if entry["actor_name"] else entry["actor"]
        line = f"{moment(entry['created_at'])}  {entry['action']}  {entry['subject']}  by {who}"
        console.print(line, *_changes(entry["before"] or {}, entry["after"] or {}), sep="\n    ", soft_wrap=True)


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for each thing that is otherwise than it was."""
    names = [name for name in before | after if before.get(name) != after.get(name)]
    was = {name: f"{json.dumps(before[name])} -> " if name in before else "" for name in names}
    return [f"{name}: {was[name]}{json.dumps(after.get(name))}" for name in names]
