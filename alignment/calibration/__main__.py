"""The process behind `alignway gates calibrate`: `python -m alignment.calibration --store DIR --alias NAME`."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

import typer
from rich.table import Table

from alignment.calibration.run import Asked, calibrate
from alignment.errors import AlignmentError
from gateway.commands.options import console, print_json
from gateway.contracts.gate_report import POWER, Calibration
from gateway.sections.gates import GateSettings
from gateway.storage.database import Database

DATABASE_VARIABLE = "ALIGNWAY_DATABASE_URL"


def main() -> None:
    """Calibrate, print, and end with status 1 if it did not come to that."""
    arguments = _parser().parse_args()
    try:
        found = asyncio.run(_calibrate(arguments))
    except KeyboardInterrupt:
        sys.exit(130)
    except AlignmentError as error:
        typer.echo(f"error: {error.message}", err=True)
        sys.exit(1)
    if arguments.json:
        print_json(found.model_dump(mode="json"))
    else:
        _print(found)


async def _calibrate(arguments: argparse.Namespace) -> Calibration:
    database = Database(os.environ[DATABASE_VARIABLE])
    asked = Asked(arguments.alias, arguments.seeds, arguments.draws, arguments.seed)
    limits = GateSettings.model_validate_json(arguments.gates)
    try:
        return await calibrate(database, arguments.store, asked, limits, lambda text: typer.echo(text, err=True))
    finally:
        await database.close()


def _print(found: Calibration) -> None:
    table = Table("gate", "limit", "level", "false alarms", "sees from")
    for one in found.limits:
        effect = "-" if one.smallest_effect is None else f"{one.smallest_effect:.4g}"
        table.add_row(one.gate, one.name, one.level, f"{100 * one.false_alarm_share:.1f} %", effect)
    console.print(table)
    console.print(
        f"{found.draws} comparisons without a difference ({found.subject}), {found.holdout_pairs} held-out pairs.\n"
        f"False alarms: share of them that crossed the limit. Sees from: the smallest change, in units of the limit, "
        f"that crosses it in {100 * POWER:.0f} % of cases.\n"
        "Reports show it from now on: alignway releases gates NAME. Limits are settings under [gates] (docs/gates.md).",
        markup=False,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alignment.calibration", description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="folder of data sets and releases")
    parser.add_argument("--alias", required=True, help="whose gates")
    parser.add_argument("--gates", default="{}", help="the settings under `gates`, as JSON")
    parser.add_argument("--seeds", type=int, default=0, help="so many trainings; 0: compare releases that were made")
    parser.add_argument("--draws", type=int, default=400, help="comparisons without a difference")
    parser.add_argument("--seed", type=int, default=0, help="of draws and trainings")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    main()
