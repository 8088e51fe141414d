"""`alignway demo`: starts everything on loopback, plays the loop over HTTP, prints and draws the report."""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gateway.commands.options import JsonOption
from gateway.demo.full.command import Shell
from gateway.demo.full.play import FullSettings, run_full_demo, write_profile
from gateway.demo.full.plot import draw_full_report
from gateway.demo.full.table import print_full_report
from gateway.demo.host import hosted
from gateway.demo.loop import run_demo
from gateway.demo.player import QUICK, DemoSettings
from gateway.demo.plot import Report, draw_report, save_report
from gateway.demo.report import DemoReport, Stage
from gateway.demo.table import print_report
from gateway.errors import InvalidRequest

DATA_DIR = Path(".alignway/demo")
REPORT_DIR = Path("demo-report")
ALIAS = "assistant"
GATES = {"ALIGNWAY_GATES__OFF": '["artefact", "drift"]'}
"""A house style is a wide step away from the base's words and their length, which is what is asked for here; what is
left holds the candidate to the votes and to its general language, and the report counts empty and repeated answers."""


def demo(
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Also a canary with votes, a bad candidate stopped, a broken release taken back. 40 minutes at most.",
        ),
    ] = False,
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
    if full:
        _check_full(quick, url)
    # A demo that is told to end must take down what it started: let the clean-up run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=as_json)
    if full:
        raise typer.Exit(_play_full(data_dir, report_dir, console, as_json))
    settings = QUICK if quick else DemoSettings()
    if url is not None:
        report = run_demo(url, key or "EMPTY", alias, settings, console)
    else:
        report = _play_from_scratch(data_dir, settings, console)
    files = save_report(report, report_dir, draw_report)
    _show(report, files, print_report, console, as_json)
    if url is None and not as_json:
        _say_what_next(data_dir, report, console)
    raise typer.Exit(report.exit_code)


def _check_full(quick: bool, url: str | None) -> None:
    if url is not None:
        raise InvalidRequest(
            "--full starts an Alignway of its own, with the settings of the profile `quick`; leave out --url.",
            param="url",
        )
    if quick:
        raise InvalidRequest(
            "--quick is too small for --full: its gates would have too little to measure. Leave out one of them.",
            param="quick",
        )


def _play_full(data_dir: Path, report_dir: Path, console: Console, as_json: bool) -> int:
    config = write_profile(_emptied(data_dir))
    with _started(data_dir, console, "--config", str(config)) as (found, start):
        shell = Shell(data_dir, config)
        report = run_full_demo(found["url"], found["key"], ALIAS, shell, FullSettings(), console)
    shifted = [_later(stage, start.seconds) for stage in report.stages]
    report = report.model_copy(update={"stages": (start, *shifted)})
    _show(report, save_report(report, report_dir, draw_full_report), print_full_report, console, as_json)
    return report.exit_code


def _show(
    report: Report,
    files: tuple[Path, Path],
    print_report: Callable[[Report, Console], None],
    console: Console,
    as_json: bool,
) -> None:
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
        return
    print_report(report, console)
    console.print(f"\nreport: {files[0]}   picture: {files[1]}")


def _play_from_scratch(data_dir: Path, settings: DemoSettings, console: Console) -> DemoReport:
    with _started(_emptied(data_dir), console, environment=GATES) as (found, start):
        report = run_demo(found["url"], found["key"], ALIAS, settings, console)
    shifted = [_later(stage, start.seconds) for stage in report.stages]
    return report.model_copy(update={"stages": (start, *shifted)})


def _emptied(data_dir: Path) -> Path:
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    return data_dir


@contextmanager
def _started(
    data_dir: Path, console: Console, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[dict[str, Any], Stage]]:
    """An Alignway of the demo's own, and how long it took to start."""
    began = time.monotonic()
    with ExitStack() as running:
        with console.status("starting Alignway: model, engine, gateway, aligner ..."):
            found = running.enter_context(hosted(data_dir, *flags, environment=environment))
        start = Stage(name="start", started_seconds=0.0, seconds=time.monotonic() - began)
        console.print(f"Alignway is up at {found['url']} after {start.seconds:.0f} s")
        yield found, start


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
