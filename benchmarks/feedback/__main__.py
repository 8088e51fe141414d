"""Feedback under load.

python -m benchmarks.feedback votes --seconds 20
python -m benchmarks.feedback kills --kills 100 --minutes 45
python -m benchmarks.feedback datasets --votes 10000 100000 1000000
"""

import argparse
import sys

from benchmarks.feedback import datasets, kills, votes


def main() -> int:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feedback", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    speed = commands.add_parser("votes", help="acknowledged votes a second")
    speed.add_argument("--database", choices=("sqlite", "postgresql"), action="append", help="default: both")
    speed.add_argument("--clients", type=int, default=64)
    speed.add_argument("--seconds", type=float, default=20.0)
    speed.add_argument("--workers", type=int, default=1)
    speed.add_argument("--no-record", action="store_true")
    speed.add_argument("--json", action="store_true")
    proof = commands.add_parser("kills", help="votes while the gateway is killed")
    proof.add_argument("--database", choices=("sqlite", "postgresql"), action="append", help="default: both")
    proof.add_argument("--kills", type=int, default=kills.TARGET_KILLS)
    proof.add_argument("--minutes", type=float, default=45.0)
    proof.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    proof.add_argument("--json", action="store_true")
    sizes = commands.add_parser("datasets", help="how long a data set of so many votes takes")
    sizes.add_argument("--votes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    sizes.add_argument("--database", choices=("sqlite", "postgresql"), action="append", help="default: sqlite")
    asked = parser.parse_args()
    if asked.command == "datasets":
        return datasets.run(asked.votes, asked.database or ["sqlite"])
    databases = asked.database or ["sqlite", "postgresql"]
    if asked.command == "kills":
        return kills.run(databases, asked.kills, asked.minutes, asked.seed, asked.json)
    return votes.run(databases, asked.clients, asked.seconds, asked.workers, asked.json, not asked.no_record)


if __name__ == "__main__":
    sys.exit(main())
