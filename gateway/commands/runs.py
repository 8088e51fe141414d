"""`alignway runs list|show|cancel|pause|resume`: training runs, on the records directly; the aligner carries it out."""

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.calendar.wall_clock import zone_named
from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, copied, folded, print_json
from gateway.commands.workplace import with_database
from gateway.errors import InvalidRequest, NotFound
from gateway.rollout.forecast import why_waiting
from gateway.rollout.pausing import pause_training, resume_training
from gateway.rollout.retraining import alias_to_train
from gateway.rollout.run_changes import Change, change_run
from gateway.rollout.triggers import automatic_views, shown_time
from gateway.routes.views import run_view
from gateway.settings import Settings
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import find_run, list_run_events, list_runs, queue_position

app = typer.Typer(help="Training runs: list and show them, cancel, pause, resume.", no_args_is_help=True)
EVENTS_SHOWN = 10
Views = list[dict[str, Any]]

RunArgument = Annotated[str, typer.Argument(help="Its id, ftjob-...", show_default=False)]
OptionalRun = Annotated[str | None, typer.Argument(help="Its id, ftjob-...", show_default=False)]
AliasOption = Annotated[str | None, typer.Option("--alias", help="Which alias; may be left out where there is one.")]
AutomaticOption = Annotated[bool, typer.Option("--automatic", help="Not one run, but training without being asked.")]


@app.command("list")
def list_(
    alias: Annotated[str | None, typer.Option("--alias", help="Of this alias alone.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first, with their place in the queue; and when each alias is trained next by itself."""

    async def work(database: Database, settings: Settings) -> tuple[Views, Views, Settings]:
        async with database.read() as session:
            runs = await list_runs(session, alias)
            shown = [await _view(session, settings, run) for run in runs]
            return shown, await automatic_views(session, settings.aligner, time.time(), alias), settings

    runs, automatic, settings = with_database(config, data_dir, work)
    if as_json:
        print_json({"runs": runs, "automatic": automatic})
        return
    table = Table(*copied("id", "alias"), "status", *folded("stage"), "done", "trigger", "asked for")
    for run in runs:
        asked = f"{datetime.fromtimestamp(run['created_at'], zone_named(settings.aligner.time_zone)):%Y-%m-%d %H:%M}"
        where = (run["status"], run["waits_for"] or run["stage"], f"{run['progress']:.0%}")
        table.add_row(run["id"], run["alias"], *where, run["trigger"], asked)
    console.print(table)
    for one in automatic:
        console.print(_automatic_line(one, settings), markup=False)
    console.print("Ask for a run with `alignway retrain`; look at one with `alignway runs show ID`.")


@app.command("show")
def show(
    run_id: RunArgument, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Show a run: where it stands, what it took, and what happened last."""

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        async with database.read() as session:
            run = await _found(session, run_id)
            events = await list_run_events(session, run_id)
            told = [{"type": e.type, "level": e.level, "message": e.message, "at": e.at} for e in events]
            return await _view(session, settings, run) | {"events": told}

    found = with_database(config, data_dir, work)
    if as_json:
        print_json(found)
        return
    for name in ("id", "alias", "status", "waits_for", "stage", "trigger", "dataset_id", "release_id", "error"):
        console.print(f"{name:15} {'-' if found[name] is None else found[name]}", markup=False)
    console.print(f"{'progress':15} {found['progress']:.0%}")
    table = Table("at", *folded("what happened"))
    for event in found["events"][-EVENTS_SHOWN:]:
        table.add_row(f"{datetime.fromtimestamp(event['at']):%H:%M:%S}", event["message"])
    console.print(table)


@app.command("cancel")
def cancel(
    run_id: RunArgument, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Stop a run: at once if it waits, else between two steps. One that has ended stays as it is."""
    _change(run_id, "cancelled", config, data_dir, as_json)


@app.command("pause")
def pause(
    run_id: OptionalRun = None,
    automatic: AutomaticOption = False,
    alias: AliasOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; shown until it is resumed.")] = "",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pause a run behind a checkpoint; or, with --automatic, let no run of an alias begin by itself."""
    if _is_for_alias(run_id, automatic):
        _switch(alias, config, data_dir, as_json, reason=reason)
    else:
        _change(run_id or "", "paused", config, data_dir, as_json)


@app.command("resume")
def resume(
    run_id: OptionalRun = None,
    automatic: AutomaticOption = False,
    alias: AliasOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a paused run again; or, with --automatic, let runs of an alias begin by themselves again."""
    if _is_for_alias(run_id, automatic):
        _switch(alias, config, data_dir, as_json, reason=None)
    else:
        _change(run_id or "", "resumed", config, data_dir, as_json)


def _is_for_alias(run_id: str | None, automatic: bool) -> bool:
    if (run_id is None) != automatic:
        raise InvalidRequest("Name a run (`alignway runs list` shows them), or say --automatic; one of the two.")
    return automatic


def _switch(
    alias: str | None, config: Path | None, data_dir: Path | None, as_json: bool, *, reason: str | None
) -> None:
    async def work(database: Database, settings: Settings) -> tuple[dict[str, Any], Settings]:
        async with database.write() as session:
            name = (await alias_to_train(session, alias)).name
            if reason is None:
                await resume_training(session, name, COMMAND_LINE)
            else:
                await pause_training(session, name, COMMAND_LINE, reason)
            return (await automatic_views(session, settings.aligner, time.time(), name))[0], settings

    one, settings = with_database(config, data_dir, work)
    if as_json:
        print_json(one)
    else:
        console.print(_automatic_line(one, settings), markup=False)


def _change(run_id: str, to: Change, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        async with database.write() as session:
            run = await _found(session, run_id, locked=True)
            await change_run(session, run, to, COMMAND_LINE, time.time())
            return await _view(session, settings, run) | {"requested": to}

    run = with_database(config, data_dir, work)
    if as_json:
        print_json(run)
    elif run["status"] == "running":
        how = "goes on" if to == "resumed" else "stops between two steps"
        console.print(f"{run['id']} is at work and {how}; follow it with `alignway runs show {run['id']}`.")
    else:
        console.print(f"{run['id']} is {run['status']}.")


def _automatic_line(one: dict[str, Any], settings: Settings) -> str:
    """One sentence: when the alias is trained by itself, or why it is not."""
    name = one["alias"]
    if one["paused_reason"]:
        again = f"alignway runs resume --automatic --alias {name}"
        return f"{name}: automatic training is paused: {one['paused_reason']}. Begin it again with `{again}`."
    ways = []
    if one["next_planned_at"] is not None:
        ways.append(f"next planned run {shown_time(one['next_planned_at'], settings.aligner)} ({one['schedule']})")
    if one["min_new_pairs"] is not None:
        ways.append(f"a run once {one['min_new_pairs']} pairs are new")
    left_out = f". Left out: {one['left_out']}" if one["left_out"] else ""
    return (
        f"{name}: {', or '.join(ways) or 'trained only when asked (set aligner.schedule or aligner.every)'}{left_out}"
    )


async def _view(session: AsyncSession, settings: Settings, run: Run) -> dict[str, Any]:
    position = await queue_position(session, run) if run.state == "queued" else None
    waits_for = await why_waiting(session, settings.aligner, run, time.time())
    return run_view(run) | {"queue_position": position, "waits_for": waits_for}


async def _found(session: AsyncSession, run_id: str, *, locked: bool = False) -> Run:
    run = await find_run(session, run_id, locked=locked)
    if run is None:
        raise NotFound(f"There is no run {run_id}; `alignway runs list` shows those there are.", code="run_not_found")
    return run
