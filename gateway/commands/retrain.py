"""`alignway retrain`: ask for a training run, or with `--dry-run` only for what it would be."""

import time
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from gateway.commands.options import ConfigOption, DataDirOption, JsonOption, console, print_json, progress
from gateway.commands.workplace import with_database
from gateway.contracts.placement import gib
from gateway.contracts.training import TrainingOptions
from gateway.errors import InvalidRequest
from gateway.rollout.retraining import Wish, queue_run, try_out
from gateway.routes.views import run_view
from gateway.settings import Settings
from gateway.storage.aligner_hosts import newest_aligner
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.database import Database

AliasOption = Annotated[str | None, typer.Option("--alias", help="Which alias; may be left out where there is one.")]


def retrain(
    alias: AliasOption = None,
    method: Annotated[str, typer.Option("--method", help="orpo, dpo, kto, sft and more: docs/training.md.")] = "orpo",
    max_steps: Annotated[int | None, typer.Option("--max-steps", help="Stop after so many optimiser steps.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Passes over the pairs. Default: auto.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Peak rate. Default: auto.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of data order, adapter and dropout.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or npu.")] = "auto",
    options: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: any other option of docs/training.md; repeatable.")
    ] = None,
    allow_downtime: Annotated[
        bool, typer.Option("--allow-downtime", help="With aligner.devices = borrow: the only engine may be stopped.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be trained on, where, for how long, and when.")
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a training run of an alias; an aligner carries it out. Nothing is promoted by it."""
    given = {"max_steps": max_steps, "epochs": epochs, "learning_rate": learning_rate}
    fixed = {"method": method, "seed": seed, "device": device}
    asked = fixed | {name: value for name, value in given.items() if value is not None} | _more(options or [])
    wish = Wish(alias, _checked(asked), allow_downtime)

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        with progress.status("Going through the pairs"):
            if dry_run:
                return await try_out(database, settings, wish, time.time())
            queued = await queue_run(database, settings, wish, COMMAND_LINE, time.time())
        async with database.read() as session:
            runs = await newest_aligner(session, time.time()) is not None
        counted = {"train_pairs": queued.pairs.train, "holdout_pairs": queued.pairs.holdout}
        return run_view(queued.run) | {"queue_position": queued.position, "aligner_runs": runs, **counted}

    told = with_database(config, data_dir, work)
    if as_json:
        print_json(told)
    elif dry_run:
        _tell_forecast(told)
    else:
        _tell_queued(told)


def _more(options: list[str]) -> dict[str, Any]:
    found = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign:
            raise InvalidRequest(f"--set takes NAME=VALUE, such as --set rank=32; {option!r} has no `=`.", param="set")
        found[name.strip().replace("-", "_")] = tuple(value.split(",")) if name == "targets" and "," in value else value
    return found


def _checked(asked: dict[str, Any]) -> TrainingOptions:
    try:
        return TrainingOptions.model_validate(asked)
    except ValidationError as error:
        flaws = "; ".join(
            f"{'.'.join(str(part) for part in flaw['loc']) or 'options'}: {flaw['msg']}" for flaw in error.errors()
        )
        raise InvalidRequest(f"These options cannot be: {flaws}. docs/training.md has them all.") from error


def _tell_queued(run: dict[str, Any]) -> None:
    before = run["queue_position"]
    place = f"{before} {'run' if before == 1 else 'runs'} of the alias before it" if before else "next of its alias"
    pairs = f"{run['train_pairs']} pairs to train on, {run['holdout_pairs']} held out"
    console.print(f"Queued {run['id']} for {run['alias']}: {pairs}; {place}.", markup=False)
    if not run["aligner_runs"]:
        console.print("No aligner runs yet: it begins with `alignway up`, or `alignway aligner` beside the gateway.")
    console.print(f"Next: alignway runs show {run['id']}")


def _tell_forecast(told: dict[str, Any]) -> None:
    rows = [
        ("alias", told["alias"]),
        ("pairs", f"{told['train_pairs']} to train on, {told['holdout_pairs']} held out (eligible now)"),
        ("method", f"{told['method']}, {told['steps']} steps"),
        ("device", told["device_reason"] or "unknown"),
        ("peak memory", _size(told["peak_memory_bytes"])),
        ("duration", _duration(told["duration_seconds"], len(told["estimated_from"]))),
        ("displaces", _displaced(told["displaces"])),
        ("starts", f"{told['starts'].replace('_', ' ')}: {told['starts_reason']}"),
    ]
    for name, text in rows:
        console.print(f"{name:12} {text}", markup=False)
    console.print("Nothing was queued. What each rule would leave out: alignway dataset build --dry-run")


def _size(peak: int | None) -> str:
    return "unknown: no run like it has ended yet" if peak is None else f"about {gib(peak)}, as earlier runs took"


def _duration(seconds: float | None, runs: int) -> str:
    if seconds is None:
        return "unknown: no run like it has ended yet"
    minutes = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
    return f"about {minutes}, by the pace of {runs} earlier {'run' if runs == 1 else 'runs'}"


def _displaced(displaces: dict[str, Any] | None) -> str:
    if displaces is None:
        return "nothing: it takes free memory only"
    others = "the others serve on" if displaces["alias_is_served_meanwhile"] else "nobody is answered meanwhile"
    return f"{displaces['replica']}, which is stopped for as long as it takes; {others}"
