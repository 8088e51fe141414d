"""`alignway gates add|list|remove`: your own questions that every candidate must answer."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, copied, folded, print_json
from gateway.commands.workplace import with_database
from gateway.rollout.cases import case_view, drop_case, keep_cases, read_cases
from gateway.settings import Settings
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.database import Database
from gateway.storage.gate_cases import list_cases

app = typer.Typer(help="Gates: your own questions that every candidate must answer.", no_args_is_help=True)
AliasOption = Annotated[str | None, typer.Option("--alias", help="Of which alias; default: all, or the first model's.")]


@app.command("add")
def add(
    cases: Annotated[Path, typer.Argument(help="JSON Lines, a case on each: docs/gates.md.")],
    alias: AliasOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the cases of a file, all or none. The next candidate is held to them."""
    bodies = read_cases(cases)

    async def work(database: Database, settings: Settings) -> list[dict[str, Any]]:
        name = alias or settings.models[0].alias
        async with database.write() as session:
            return [case_view(row) for row in await keep_cases(session, name, bodies, COMMAND_LINE, time.time())]

    added = with_database(config, data_dir, work)
    if as_json:
        print_json(added)
    else:
        console.print(f"Added {len(added)} cases to {added[0]['alias']}. See them with `alignway gates list`.")


@app.command("list")
def list_(
    alias: AliasOption = None, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """List cases, oldest first."""

    async def work(database: Database, _: Settings) -> list[dict[str, Any]]:
        async with database.read() as session:
            return [case_view(row) for row in await list_cases(session, alias)]

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
        return
    table = Table(*copied("id"), "alias", "severity", *folded("asked"))
    for case in found:
        table.add_row(case["id"], case["alias"], case["severity"], str(case["prompt"][-1].get("content", "")))
    console.print(table)
    if not found:
        console.print("Next: alignway gates add CASES.jsonl (docs/gates.md shows a line)")


@app.command("remove")
def remove(
    case_id: str, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Remove a case."""

    async def work(database: Database, _: Settings) -> dict[str, Any]:
        async with database.write() as session:
            return await drop_case(session, case_id, COMMAND_LINE)

    removed = with_database(config, data_dir, work)
    if as_json:
        print_json(removed)
    else:
        console.print(f"Removed {case_id}.")
