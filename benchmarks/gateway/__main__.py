"""Alignway beside other gateways: `python -m benchmarks.gateway` installs them, measures all, writes table and plot.

python -m benchmarks.gateway                  setup, run and table in one
python -m benchmarks.gateway setup [NAME ...] install what is missing, into --folder
python -m benchmarks.gateway check [NAME ...] one plain and one streamed answer through each
python -m benchmarks.gateway run [NAME ...]   measure; --quick takes 3 minutes, and 15 without
python -m benchmarks.gateway table [FILE]     table, plot and goals of a recorded run; default: the newest
python -m benchmarks.gateway memory           Alignway's memory over 100,000 requests
python -m benchmarks.gateway votes            10,000 votes, each at once after its answer, to either of two workers
python -m benchmarks.gateway profile          where Alignway's microseconds go
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import record as records
from benchmarks.gateway import memory, plot, profiling, table, votes
from benchmarks.gateway.goals import OURS, OURS_2_WORKERS
from benchmarks.gateway.load import Load
from benchmarks.gateway.measure import Meter, NotReady
from benchmarks.gateway.peers import install, load_peers
from benchmarks.gateway.place import ROOT, Place, Started
from benchmarks.gateway.plan import DEFAULT, QUICK, Plan
from benchmarks.gateway.processes import Cores
from benchmarks.gateway.run import Bench, Foreign

NAME = "gateway"
UNPACED = Plan(chunks=20, pause_ms=0)
"""For proofs that count answers: the streams of the mock come at once."""


def say(line: str) -> None:
    """Tell whoever watches."""
    print(line, flush=True)


def setup(options: argparse.Namespace) -> None:
    """Install the peers that are missing."""
    for peer in load_peers():
        if (options.names and peer.name not in options.names) or (peer.is_optional and peer.name not in options.names):
            continue
        if not peer.is_installed(options.folder):
            say(f"installing {peer.name} into {peer.home(options.folder)}")
        reason = install(peer, options.folder)
        say(f"{peer.name}: skipped, {reason}" if reason else f"{peer.name} {peer.version(options.folder)}")


def run(options: argparse.Namespace) -> None:
    """Measure, record, show."""
    full = DEFAULT if options.rounds is None else replace(DEFAULT, rounds=options.rounds)
    bench = _bench(options, QUICK if options.quick else full)
    names = options.names or [name for name in bench.names() if name not in options.skip]
    if strangers := sorted(set(names) - {*bench.names(), *bench.peers}):
        raise SystemExit(f"There is no {', '.join(strangers)}; there are {', '.join(bench.names())}.")
    figures = bench.measure_all(names, say)
    folder = options.folder / "quick" if options.quick else records.RESULTS
    _show(records.record(NAME, figures, folder))


def setup_and_run(options: argparse.Namespace) -> None:
    """Install what is missing, then measure, record, show."""
    setup(options)
    run(options)


def show(options: argparse.Namespace) -> None:
    """Table, plot and goals of a recorded run."""
    newest = sorted(records.RESULTS.glob(f"{NAME}-2*.json"))
    if not options.file and not newest:
        raise SystemExit("No run is recorded yet: python -m benchmarks.gateway run")
    _show(options.file or newest[-1])


def check(options: argparse.Namespace) -> None:
    """One plain and one streamed answer through each gateway; exits with 1 if one is wrong."""
    bench = _bench(options, QUICK)
    wrong = [name for name in options.names or bench.names() if not _check_one(bench, name)]
    sys.exit(f"wrong: {', '.join(wrong)}" if wrong else 0)


def measure_memory(options: argparse.Namespace) -> None:
    """Alignway's memory over many requests."""

    async def work(load: Load, started: Started) -> dict[str, Any]:
        return await memory.measure_memory(load, Meter(started), options.requests)

    _prove(options, "gateway-memory", OURS, work, memory.judge)


def measure_votes(options: argparse.Namespace) -> None:
    """Votes that follow their answers at once."""

    async def work(load: Load, started: Started) -> dict[str, Any]:
        return await votes.measure_votes(load, started, options.tries)

    _prove(options, "gateway-votes", OURS_2_WORKERS, work, votes.judge)


def profile(options: argparse.Namespace) -> None:
    """Where Alignway's microseconds go."""
    say(str(profiling.profile(_bench(options, DEFAULT), options.seconds, say)))


def _prove(options: argparse.Namespace, name: str, row: str, work: Any, judge: Callable[[Any], list[str]]) -> None:
    figures, facts = _bench(options, UNPACED).with_gateway(row, work)
    path = records.record(name, figures | {"facts": facts}, options.record_folder or records.RESULTS)
    say("\n".join([*judge(figures), str(path)]))


def _check_one(bench: Bench, name: str) -> bool:
    async def work(load: Load, _: Started) -> dict[str, int]:
        connection = await load.connect()
        for stream in (False, True):
            answer = await load.ask(connection, stream)
            if answer is not None:
                say(f"{name}: {'streamed' if stream else 'whole'} answer right, {1e3 * answer.seconds:.1f} ms")
        return dict(load.wrong)

    try:
        wrong, facts = bench.with_gateway(name, work)
    except NotReady as error:
        say(f"{name}: {error}")
        return False
    say(f"{name}: {wrong or facts}")
    return not wrong


def _show(path: Path) -> None:
    run_recorded = json.loads(path.read_text())
    page = table.markdown(run_recorded)
    path.with_suffix(".md").write_text(page)
    plot.draw(run_recorded, path.with_suffix(".png"))
    say(f"{page}\n{path}\n{path.with_suffix('.md')}\n{path.with_suffix('.png')}")


def _bench(options: argparse.Namespace, plan: Plan) -> Bench:
    options.cores.check()
    foreign = None
    if options.upstream:
        if not options.upstream_model:
            raise SystemExit("--upstream needs --upstream-model: what that upstream calls its model.")
        foreign = Foreign(options.upstream.rstrip("/").removesuffix("/v1"), options.upstream_model, options.max_tokens)
    return Bench(Place(options.folder, options.cores), plan, foreign)


def _cores(value: str) -> Cores:
    load, gateway = value.split(",")
    return Cores(int(load), int(gateway))


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--folder", type=lambda value: Path(value).resolve(), default=ROOT / ".bench-peers")
    shared.add_argument("--cores", type=_cores, default=Cores(), metavar="LOAD,GATEWAY", help="default: 0,1")
    shared.add_argument(
        "--upstream", help="a real OpenAI-compatible server instead of the mock, such as http://host:8000"
    )
    shared.add_argument("--upstream-model", help="what that server calls its model")
    shared.add_argument("--max-tokens", type=int, default=128, help="of each answer; matters with --upstream")
    shared.add_argument("--quick", action="store_true", help="short windows; recorded in --folder, not in results/")
    shared.add_argument("--rounds", type=int, help=f"how often each gateway is measured; default: {DEFAULT.rounds}")
    shared.add_argument("--skip", nargs="*", default=[], metavar="NAME", help="rows to leave out")
    shared.add_argument("--record-folder", type=Path, help="where to record a proof; default: benchmarks/results")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    for name, work in (("all", setup_and_run), ("setup", setup), ("run", run), ("check", check)):
        command = commands.add_parser(name, parents=[shared], help=work.__doc__)
        command.add_argument("names", nargs="*", metavar="NAME")
        command.set_defaults(work=work)
    _add(commands, shared, "table", show).add_argument("file", nargs="?", type=Path)
    _add(commands, shared, "memory", measure_memory).add_argument("--requests", type=int, default=100_000)
    _add(commands, shared, "votes", measure_votes).add_argument("--tries", type=int, default=10_000)
    _add(commands, shared, "profile", profile).add_argument("--seconds", type=float, default=15.0)
    return parser


def _add(commands: Any, shared: argparse.ArgumentParser, name: str, work: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, parents=[shared], help=work.__doc__)
    command.set_defaults(work=work)
    return command


def main() -> None:
    """Do what the command line says."""
    said = sys.argv[1:]
    if not said or (said[0].startswith("-") and said[0] not in ("-h", "--help")):
        said = ["all", *said]
    options = _parser().parse_args(said)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    options.work(options)


if __name__ == "__main__":
    main()
