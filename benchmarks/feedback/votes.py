"""Acknowledged votes a second through the real HTTP route with a key, on SQLite (`synchronous=FULL`) and PostgreSQL.

The goal is 2,000 a second on two cores with 64 clients, 99 of 100 under 50 ms. The clients, the gateway and the
database share the machine, often with others: CPU per vote says how much of it the gateway took.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.feedback.site import ROOT, Site, fill, make_site
from benchmarks.gateway.processes import cpu_time, tree, with_command
from benchmarks.record import record

NAME = "feedback-votes"
GOAL_VOTES_PER_SECOND = 2000
GOAL_P99_SECONDS = 0.05
WARM_UP_SECONDS = 2.0
MOST_VOTES_PER_SECOND = 4000
"""Completions are made for so many, and no more votes can be sent."""


def measure(database: str, clients: int, seconds: float, workers: int) -> dict[str, Any]:
    """Vote for so long on one kind of database."""
    with make_site(database, workers) as site:
        completions = fill(site.database_url, int(MOST_VOTES_PER_SECOND * (seconds + WARM_UP_SECONDS)))
        process = site.start()
        try:
            site.wait_until_ready()
            seen = _vote(site, process.pid, completions, clients, seconds)
        finally:
            process.terminate()
            process.wait(30)
    rate = seen["acknowledged"] / seen["measured_seconds"]
    return {
        "database": database,
        "workers": workers,
        "clients": clients,
        "measured_seconds": round(seen["measured_seconds"], 1),
        "votes": seen["acknowledged"],
        "votes_per_second": round(rate),
        "vote_seconds": {name: round(value, 4) for name, value in seen["seconds"].items()},
        "failures": seen["failures"],
        "gateway_cpu_ms_per_vote": round(seen["gateway_cpu"] * 1000 / max(1, seen["acknowledged"]), 3),
        "clients_cpu_ms_per_vote": round(seen["clients_cpu"] * 1000 / max(1, seen["acknowledged"]), 3),
        "cores_idle_share": round(seen["idle_share"], 2),
        "load_1_minute_before": round(seen["load"], 2),
        "met": rate >= GOAL_VOTES_PER_SECOND and seen["seconds"]["p99"] < GOAL_P99_SECONDS and not seen["failures"],
    }


def _vote(site: Site, gateway: int, completions: list[str], clients: int, seconds: float) -> dict[str, Any]:
    asked = {
        "port": site.port,
        "key": site.key,
        "clients": clients,
        "seconds": seconds,
        "warm_up_seconds": WARM_UP_SECONDS,
        "completions": completions,
    }
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "benchmarks.feedback.voters"]
    voters = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = {}

    def watch() -> None:
        time.sleep(WARM_UP_SECONDS + 1)
        serving = with_command(tree(gateway), "gateway.worker")
        before = (cpu_time(serving).total, cpu_time([voters.pid]).total, *_ticks())
        time.sleep(seconds - 2)
        after = (cpu_time(serving).total, cpu_time([voters.pid]).total, *_ticks())
        share = seconds / (seconds - 2)  # of the time that is measured
        found["gateway_cpu"], found["clients_cpu"] = ((after[i] - before[i]) * share for i in (0, 1))
        found["idle_share"] = (after[2] - before[2]) / (after[3] - before[3])

    watcher = threading.Thread(target=watch)
    watcher.start()
    told, _ = voters.communicate(json.dumps(asked))
    watcher.join()
    if voters.returncode:
        raise SystemExit("the clients failed; see above")
    return json.loads(told) | found | {"load": load}


def _ticks() -> tuple[int, int]:
    """Idle ticks and all ticks of this machine's cores."""
    fields = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:]]
    return fields[3] + fields[4], sum(fields)


def run(databases: list[str], clients: int, seconds: float, workers: int, as_json: bool, keep: bool) -> int:
    """Measure, print, record; the exit status says whether every goal was met."""
    figures = [measure(database, clients, seconds, workers) for database in databases]
    path = record(NAME, {"runs": figures}) if keep else None
    if as_json:
        print(json.dumps({"runs": figures, "recorded": str(path)}))
    else:
        for one in figures:
            p99 = one["vote_seconds"]["p99"] * 1000
            print(
                f"{one['database']}: {one['votes_per_second']} votes/s, p99 {p99:.0f} ms, gateway "
                f"{one['gateway_cpu_ms_per_vote']} ms CPU a vote: {'met' if one['met'] else 'MISSED'}"
            )
    return 0 if all(one["met"] for one in figures) else 1
