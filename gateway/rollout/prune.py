"""Removes the weights of old releases that nobody serves or may go back to; their rows and cards stay.

First the records say that a release is pruned, then its files go: whoever is killed in between leaves files that the
next look removes, and never a release that is taken for whole.
"""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.release import ADAPTER_FOLDER, MERGED_FOLDER
from gateway.contracts.seal import SEAL_FILE
from gateway.settings import Settings
from gateway.storage.audit import write_audit
from gateway.storage.bucket import Bucket
from gateway.storage.database import Database
from gateway.storage.releases import list_releases
from gateway.storage.rollouts import open_rollout, promotion_of
from gateway.storage.routing_state import lock_alias
from gateway.storage.tables import Alias, ReleaseRow, Replica

WEIGHT_FOLDERS = (MERGED_FOLDER, ADAPTER_FOLDER)


@dataclass(frozen=True, slots=True)
class Pruned:
    """A release whose weights went, or would go."""

    id: str
    name: str
    alias: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is to be kept, and where the rest is removed."""

    store: Path
    keep: int
    bucket: Bucket | None = None

    @classmethod
    def of(cls, settings: Settings, keep: int | None = None) -> "Keeping":
        """As the settings say."""
        store = settings.store
        bucket = Bucket(store.url, store.endpoint_url) if store.url else None
        return cls(settings.store_path, keep or settings.releases.keep, bucket)

    def remove(self, location: str) -> None:
        """Remove the weights of a release wherever they are kept."""
        if self.bucket is not None:
            self.bucket.remove_weights(location)
        remove_weights(self.store / location)


def to_prune(newest_first: Sequence[ReleaseRow], needed: frozenset[str], keep: int) -> list[ReleaseRow]:
    """Which releases of one alias lose their weights: all but the newest, and those that are needed or pinned."""
    weighty = [row for row in newest_first if row.kind == "aligned" and row.pruned_at is None]
    return [row for row in weighty[keep:] if row.id not in needed and not row.pinned]


async def needed_releases(session: AsyncSession, alias: Alias) -> frozenset[str]:
    """What serves or may soon: with the canary, the way back, an open rollout's two sides, and what engines hold."""
    needed = {alias.serving_release_id, alias.base_release_id, alias.canary_release_id}
    if (promotion := await promotion_of(session, alias.name, alias.serving_release_id)) is not None:
        needed.add(promotion.incumbent_id)
    if (rollout := await open_rollout(session, alias.name)) is not None:
        needed |= {rollout.candidate_id, rollout.incumbent_id}
        if (promotion := await promotion_of(session, alias.name, rollout.incumbent_id)) is not None:
            needed.add(promotion.incumbent_id)
    for replica in await session.scalars(select(Replica).where(Replica.alias == alias.name)):
        needed |= {replica.weights_release_id, replica.desired_weights_id}
        needed |= {*replica.adapters, *replica.desired_adapters}
    return frozenset(release_id for release_id in needed if release_id is not None)


async def prune(database: Database, keeping: Keeping, actor: str, now: float, dry_run: bool = False) -> list[Pruned]:
    """Prune every alias; with `dry_run` only say what would go."""
    async with database.read() as session:
        aliases = (await session.scalars(select(Alias.name).order_by(Alias.name))).all()
        leftover = (await session.scalars(select(ReleaseRow).where(ReleaseRow.pruned_at.is_not(None)))).all()
    found = []
    for name in aliases:
        if dry_run:
            async with database.read() as session:
                rows = await _chosen(session, await session.get_one(Alias, name), keeping.keep)
        else:
            rows = await _mark(database, name, keeping.keep, actor, now)
        for row in rows:
            size = await asyncio.to_thread(weights_bytes, keeping.store / row.location)
            found.append(Pruned(row.id, row.name, row.alias, size))
        leftover = [*leftover, *rows]
    if not dry_run:
        for row in leftover:
            await asyncio.to_thread(keeping.remove, row.location)
    return found


async def anything_to_prune(database: Database, keep: int) -> bool:
    """Whether `prune` would find a release."""
    async with database.read() as session:
        return any([await _chosen(session, alias, keep) for alias in (await session.scalars(select(Alias))).all()])


def weights_bytes(folder: Path) -> int:
    """What the weights of a release take up."""
    files = (path for part in WEIGHT_FOLDERS for path in (folder / part).rglob("*"))
    return sum(path.stat().st_size for path in files if path.is_file())


def remove_weights(folder: Path) -> None:
    """Remove the seal, then the weights; done already is done again."""
    (folder / SEAL_FILE).unlink(missing_ok=True)
    for part in WEIGHT_FOLDERS:
        if (folder / part).is_dir():
            shutil.rmtree(folder / part)


async def _mark(database: Database, name: str, keep: int, actor: str, now: float) -> list[ReleaseRow]:
    async with database.write() as session:
        alias = await lock_alias(session, name)
        rows = await _chosen(session, alias, keep) if alias else []
        for row in rows:
            before, row.pruned_at = row.state, now
            row.state = "retired" if before == "published" else before
            await write_audit(
                session, actor=actor, action="release.pruned", subject=row.id, before={"state": before},
                after={"state": row.state},
            )  # fmt: skip
        return rows


async def _chosen(session: AsyncSession, alias: Alias, keep: int) -> list[ReleaseRow]:
    needed = await needed_releases(session, alias)
    return to_prune(await list_releases(session, alias.name), needed, keep)
