"""`alignway gates add|list|remove|calibrate`: your own questions, and how far to trust the limits."""

import os
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, copied, folded, print_json
from gateway.commands.workplace import with_database
from gateway.errors import InvalidRequest
from gateway.rollout.cases import case_view, drop_case, keep_cases, read_cases
from gateway.rollout.promotion import find_trainable
from gateway.settings import Settings
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.database import Database
from gateway.storage.gate_cases import list_cases
from gateway.supervisor import python_module

app = typer.Typer(
    help="Gates: your own questions that every candidate must answer, and how far to trust the limits.",
    no_args_is_help=True,
)
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


@app.command("calibrate")
def calibrate(
    alias: AliasOption = None,
    seeds: Annotated[
        int, typer.Option(help="Train so many times, only the seed changed. 0: compare releases that were made.")
    ] = 0,
    draws: Annotated[int, typer.Option(min=100, help="Comparisons without a difference.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same.")] = 0,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find out how often each limit is crossed without a difference, and from what effect on it sees one."""
    if seeds < 0 or seeds == 1:
        raise InvalidRequest("--seeds is 2 or more, to have two to compare, or 0.", param="seeds")

    async def look_up(database: Database, settings: Settings) -> tuple[str, Settings]:
        async with database.read() as session:
            return (await find_trainable(session, alias or settings.models[0].alias)).name, settings

    name, settings = with_database(config, data_dir, look_up)
    numbers = [f"--seeds={seeds}", f"--draws={draws}", f"--seed={seed}", *(["--json"] if as_json else [])]
    place = ["--store", str(settings.store_path), "--alias", name]
    limits = ["--gates", settings.gates.model_dump_json(exclude_defaults=True)]
    # In a process of its own: it trains and measures, which takes torch.
    command = python_module("alignment.calibration", *place, *limits, *numbers)
    done = subprocess.run(command, env=os.environ | {"ALIGNWAY_DATABASE_URL": settings.database_url}, check=False)
    if done.returncode:
        raise typer.Exit(1)


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
