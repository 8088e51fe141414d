"""`alignway demo`: starts everything on loopback, plays the loop over HTTP, prints and draws the report."""

import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.commands.options import JsonOption
from gateway.demo.host import hosted
from gateway.demo.loop import run_demo
from gateway.demo.player import QUICK, DemoSettings
from gateway.demo.plot import save_report
from gateway.demo.report import DemoReport, Stage
from gateway.demo.table import print_report

DATA_DIR = Path(".alignway/demo")
REPORT_DIR = Path("demo-report")
ALIAS = "assistant"
FULL = DemoSettings(unseen=80, pairs=240)
"""More of everything: a narrower interval, in about half as long again."""

GATES = {"ALIGNWAY_GATES__OFF": '["artefact", "drift"]'}
"""A house style is a wide step away from the base's words and their length, which is what is asked for here; what is
left holds the candidate to the votes and to its general language, and the report counts empty and repeated answers."""


def demo(
    full: Annotated[bool, typer.Option("--full", help="More prompts and pairs: a narrower interval.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only see that all parts turn; too small to prove a gain.")
    ] = False,
    url: Annotated[str | None, typer.Option(help="Play against a running Alignway instead of starting one.")] = None,
    key: Annotated[str | None, typer.Option(help="Its admin key, with --url.")] = None,
    alias: Annotated[str, typer.Option(help="Its alias, with --url.")] = ALIAS,
    data_dir: Annotated[Path, typer.Option(help="Records and releases of the demo; emptied first.")] = DATA_DIR,
    report_dir: Annotated[Path, typer.Option(help="Where report.json and report.png go.")] = REPORT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Teach a real model a house style and watch the loop find it: ask, prefer, align, swap, roll back."""
    # A demo that is told to end must take down what it started: let the clean-up run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=as_json)
    settings = FULL if full else QUICK if quick else DemoSettings()
    if url is not None:
        report = run_demo(url, key or "EMPTY", alias, settings, console)
    else:
        report = _play_from_scratch(data_dir, settings, console)
    json_file, picture = save_report(report, report_dir)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        print_report(report, console)
        console.print(f"\nreport: {json_file}   picture: {picture}")
        if url is None:
            _say_what_next(data_dir, report, console)
    raise typer.Exit(report.exit_code)


def _play_from_scratch(data_dir: Path, settings: DemoSettings, console: Console) -> DemoReport:
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    began = time.monotonic()
    started = hosted(data_dir, environment=GATES)
    with console.status("starting Alignway: model, engine, gateway, aligner ..."), started as found:
        start = Stage(name="start", started_seconds=0.0, seconds=time.monotonic() - began)
        console.print(f"Alignway is up at {found['url']} after {start.seconds:.0f} s")
        report = run_demo(found["url"], found["key"], ALIAS, settings, console)
    shifted = [_later(stage, start.seconds) for stage in report.stages]
    return report.model_copy(update={"stages": (start, *shifted)})


def _later(stage: Stage, seconds: float) -> Stage:
    """The stage on a clock that began `seconds` earlier."""
    return stage.model_copy(update={"started_seconds": stage.started_seconds + seconds})


def _say_what_next(data_dir: Path, report: DemoReport, console: Console) -> None:
    executable = Path(sys.argv[0]).name
    console.print(
        f"\nThe aligned release is kept. Serve it yourself:\n"
        f"  {executable} up --data-dir {data_dir}\n"
        f"  {executable} releases promote {report.candidate_id} --data-dir {data_dir} --reason demo\n"
        f"  {executable} chat --data-dir {data_dir}",
        highlight=False,
    )
