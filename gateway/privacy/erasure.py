"""Erases a user: rows first, then data sets, then word of it to releases; a receipt says what, in counts and hashes.

Each step is small transactions that can be done again, and the row says which step is under way. So an erasure that
was cut off anywhere goes on where it was, and one that is done changes nothing more.
"""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.contracts.training import TrainingOptions
from gateway.errors import InvalidRequest, NotFound
from gateway.feedback.identity import KeyedHashes, user_hash
from gateway.privacy import dataset_files
from gateway.storage import erasures as rows
from gateway.storage.audit import write_audit
from gateway.storage.database import Database
from gateway.storage.datasets import record_dataset
from gateway.storage.feedback_tables import Dataset, Run
from gateway.storage.privacy_tables import Erasure
from gateway.storage.runs import UNFINISHED_STATES, create_run, request_cancel
from gateway.storage.tables import Alias, Project
from gateway.storage.user_records import trained_on

Policy = Literal["flag", "schedule_retrain", "block"]
BATCH_ROWS = 500
"""So many rows go in one transaction: votes of others wait no longer than that takes."""
MAX_USER_CHARACTERS = 512
NEXT = {"queued": "rows", "rows": "datasets", "datasets": "releases", "releases": "done"}
"""The steps, in their order; there are no others."""

OnProgress = Callable[[Erasure], None]


class ErasureNotFound(NotFound):
    """There is no erasure of this id."""

    code = "erasure_not_found"

    def __init__(self, erasure_id: str) -> None:
        super().__init__(f"There is no erasure `{erasure_id}`. GET /admin/v1/erasures lists them.")


async def hashes_of_user(
    session: AsyncSession, hashes: KeyedHashes, user: str, project: str | None
) -> tuple[str | None, str, dict[str, str]]:
    """Under which hashes somebody is known: the project's id if one is named, as end user, and as rater by project.

    Raises `InvalidRequest` for a name that cannot be one, `NotFound` for an unknown project (by id or name).
    """
    if not 0 < len(user) <= MAX_USER_CHARACTERS:
        raise InvalidRequest(
            f"`user` is the name that clients send, 1 to {MAX_USER_CHARACTERS} characters.", param="user"
        )
    statement = select(Project.id)
    if project is not None:
        statement = statement.where((Project.id == project) | (Project.name == project))
    projects = (await session.scalars(statement.order_by(Project.id))).all()
    if project is not None and not projects:
        raise NotFound(f"There is no project `{project}`.", param="project", code="project_not_found")
    raters = {project_id: user_hash(project_id, user, hashes) for project_id in projects}
    return (projects[0] if project is not None else None), hashes.keyed_hash("end_user", user), raters


async def request_erasure(
    session: AsyncSession, hashes: KeyedHashes, user: str, policy: Policy, actor: str, project: str | None = None
) -> Erasure:
    """Queue an erasure. The name itself is kept nowhere; asked again while one is open, that one is returned."""
    project_id, end_user, raters = await hashes_of_user(session, hashes, user, project)
    open_one = await _open_erasure_of(session, end_user, project_id, policy)
    if open_one is not None:
        return open_one
    now = time.time()
    erasure = Erasure(
        id=ids.mint(ids.ERASURE),
        project_id=project_id,
        end_user_hash=end_user,
        rater_hashes=raters,
        policy=policy,
        state="queued",
        counts={},
        datasets={},
        releases=[],
        runs=[],
        actor=actor,
        created_at=now,
        updated_at=now,
    )
    session.add(erasure)
    after = {"end_user_hash": end_user, "policy": policy, "project": project_id}
    await write_audit(session, actor=actor, action="erasure.requested", subject=erasure.id, after=after)
    return erasure


async def find_erasure(session: AsyncSession, erasure_id: str) -> Erasure:
    """The erasure of this id. Raises `ErasureNotFound`."""
    erasure = None if "\0" in erasure_id else await session.get(Erasure, erasure_id)
    if erasure is None:
        raise ErasureNotFound(erasure_id)
    return erasure


async def carry_out(database: Database, store: Path, erasure_id: str, on_progress: OnProgress | None = None) -> Erasure:
    """Do what is left of an erasure, and return it done."""
    steps = {"queued": _begin, "rows": _erase_rows, "datasets": _rewrite_datasets, "releases": _tell_releases}
    while True:
        async with database.read() as session:
            erasure = await find_erasure(session, erasure_id)
        if on_progress is not None:
            on_progress(erasure)
        if erasure.state == "done":
            return erasure
        await steps[erasure.state](database, store, erasure)


async def look_again(database: Database, store: Path, erasure: Erasure, now: float) -> int:
    """Erase what was under way while an erasure ran, such as a vote just then; returns how much there was."""
    found = 0
    async with database.write() as session:
        row = await session.get_one(Erasure, erasure.id, with_for_update=True)
        votes = await rows.votes_to_erase(session, row, BATCH_ROWS)
        completions = await rows.completions_to_erase(session, row, BATCH_ROWS)
        found = len(votes) + len(completions)
        if found:
            row.state, row.finished_at, row.updated_at = "rows", None, now
        row.checked_at = now
    if found:
        await carry_out(database, store, erasure.id)
    return found


async def _open_erasure_of(
    session: AsyncSession, end_user: str, project_id: str | None, policy: Policy
) -> Erasure | None:
    same = (Erasure.end_user_hash == end_user, Erasure.policy == policy, Erasure.finished_at.is_(None))
    found = await session.scalars(select(Erasure).where(*same))
    return next((one for one in found if one.project_id == project_id), None)


async def _begin(database: Database, store: Path, erasure: Erasure) -> None:
    async with database.write() as session:
        _advance(await session.get_one(Erasure, erasure.id, with_for_update=True), "queued")


async def _erase_rows(database: Database, store: Path, erasure: Erasure) -> None:
    """One batch; the step is over when nothing is found any more."""
    async with database.write() as session:
        row = await session.get_one(Erasure, erasure.id, with_for_update=True)
        votes = await rows.votes_to_erase(session, row, BATCH_ROWS)
        if votes:
            _count(row, await rows.delete_votes(session, row.id, votes))
            return
        completions = await rows.completions_to_erase(session, row, BATCH_ROWS)
        if completions:
            _count(row, await rows.delete_completions(session, row.id, completions))
            return
        _count(row, await rows.delete_by_rater(session, row.rater_hashes))
        _count(row, await rows.make_usage_nobodys(session, row))
        _advance(row, "rows")


async def _rewrite_datasets(database: Database, store: Path, erasure: Erasure) -> None:
    """Find the data sets that hold what was buried, then rewrite one after the other."""
    async with database.read() as session:
        dead = [id_ for id_ in await rows.tombstones_of(session, erasure.id) if id_.startswith(ids.FEEDBACK)]
        listed = (await session.scalars(select(Dataset).where(Dataset.removed_at.is_(None)))).all()
    for dataset in listed if dead else ():
        folder = store / dataset.location
        if await asyncio.to_thread(dataset_files.holds_any, folder, dead):
            await _replace(database, folder, dataset, erasure.id, dead)
    async with database.read() as session:
        gone = (await session.scalars(select(Dataset).where(Dataset.erasure_id == erasure.id))).all()
    for dataset in gone:
        await asyncio.to_thread(dataset_files.remove, store / dataset.location)
    async with database.write() as session:
        _advance(await session.get_one(Erasure, erasure.id, with_for_update=True), "datasets")


async def _replace(database: Database, folder: Path, dataset: Dataset, erasure_id: str, dead: Sequence[str]) -> None:
    new_id = ids.DATASET + _body_of(erasure_id, dataset.id)
    new_folder = folder.with_name(new_id)
    card = await asyncio.to_thread(dataset_files.rewrite_without, folder, dead, new_folder)
    now = time.time()
    async with database.write() as session:
        row = await session.get_one(Erasure, erasure_id, with_for_update=True)
        old = await session.get_one(Dataset, dataset.id, with_for_update=True)
        if card is not None:
            location = str(Path(old.location).with_name(new_id))
            await record_dataset(session, new_id, alias=old.alias, location=location, card=card, now=now)
        old.removed_at, old.erasure_id, old.replaced_by = now, erasure_id, None if card is None else new_id
        row.datasets = row.datasets | {old.id: old.replaced_by}
        _count(row, Counter(dataset=1))
        for run in await session.scalars(select(Run).where(Run.dataset_id == old.id, Run.state.in_(UNFINISHED_STATES))):
            await request_cancel(session, run, now)


async def _tell_releases(database: Database, store: Path, erasure: Erasure) -> None:
    """Mark what was trained on them, do what the policy says, and write the receipt: one transaction."""
    now = time.time()
    async with database.write() as session:
        row = await session.get_one(Erasure, erasure.id, with_for_update=True)
        trained = await trained_on(session, set(row.datasets))
        for release in trained:
            release.tainted = True
            if row.policy == "block":
                release.blocked_by = row.id
        row.releases = [release.id for release in trained]
        if row.policy == "schedule_retrain" and not row.runs:
            row.runs = await _queue_runs(session, {release.alias for release in trained}, row, now)
        row.receipt = _receipt(row, await rows.tombstones_of(session, row.id), now)
        row.finished_at = now
        _advance(row, "releases")
        await write_audit(session, actor=row.actor, action="erasure.done", subject=row.id, after=row.receipt)


async def _queue_runs(session: AsyncSession, aliases: set[str], erasure: Erasure, now: float) -> list[str]:
    known = await session.scalars(select(Alias.name).where(Alias.name.in_(aliases), Alias.task == "chat"))
    return [
        (
            await create_run(
                session, alias=alias, trigger="erasure", actor=erasure.id, options=TrainingOptions(), now=now
            )
        ).id
        for alias in sorted(known)
    ]


def _receipt(erasure: Erasure, tombstones: Sequence[str], now: float) -> dict[str, Any]:
    """What was erased, in counts and hashes; `sha256` is over all the rest, as JSON with sorted keys."""
    receipt: dict[str, Any] = {
        "erasure": erasure.id,
        "end_user_hash": erasure.end_user_hash,
        "rater_hashes": sorted(erasure.rater_hashes.values()),
        "policy": erasure.policy,
        "counts": dict(erasure.counts),
        "ids_sha256": hashlib.sha256("\n".join(tombstones).encode()).hexdigest(),
        "ids": len(tombstones),
        "datasets": dict(erasure.datasets),
        "tainted_releases": list(erasure.releases),
        "runs": list(erasure.runs),
        "finished_at": int(now),
    }
    return receipt | {"sha256": hashlib.sha256(json.dumps(receipt, sort_keys=True).encode()).hexdigest()}


def _body_of(erasure_id: str, dataset_id: str) -> str:
    """The body of the new data set's id: the same one each time, so that a rewrite that was cut off is done again."""
    digest = hashlib.sha256(f"{erasure_id}:{dataset_id}".encode()).digest()
    made_at = ids.minted_at(erasure_id)
    return ids.ulid(made_at)[:10] + "".join("0123456789abcdefghjkmnpqrstvwxyz"[byte & 31] for byte in digest[:16])


def _count(erasure: Erasure, more: Counter[str]) -> None:
    erasure.counts = {name: number for name, number in (Counter(erasure.counts) + more).items() if number}
    erasure.updated_at = time.time()


def _advance(erasure: Erasure, done: str) -> None:
    """On to the next step, unless another process has gone on already."""
    if erasure.state == done:
        erasure.state, erasure.updated_at = NEXT[done], time.time()


def erasure_view(erasure: Erasure) -> dict[str, Any]:
    """An erasure as operators see it."""
    return {
        "id": erasure.id,
        "object": "erasure",
        "state": erasure.state,
        "policy": erasure.policy,
        "project": erasure.project_id,
        "end_user_hash": erasure.end_user_hash,
        "counts": erasure.counts,
        "datasets": [{"id": old, "replaced_by": new} for old, new in sorted(erasure.datasets.items())],
        "tainted_releases": erasure.releases,
        "runs": erasure.runs,
        "receipt": erasure.receipt,
        "created_at": int(erasure.created_at),
        "finished_at": None if erasure.finished_at is None else int(erasure.finished_at),
    }
