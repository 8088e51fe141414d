"""Releases as rows: announce, find, list."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import notice
from gateway.contracts.release import Release, release_name
from gateway.storage.feedback_tables import Dataset
from gateway.storage.notifications import note
from gateway.storage.privacy_tables import Erasure
from gateway.storage.tables import Alias, ReleaseRow


async def announce_release(session: AsyncSession, release: Release, location: str, state: str) -> ReleaseRow:
    """Record a sealed release; `location` is its folder, relative to the release store."""
    alias = await session.get_one(Alias, release.alias)
    erased = await _erasure_of_dataset(session, release.dataset_id)
    row = ReleaseRow(
        id=release.id,
        alias=release.alias,
        name=release.name,
        kind="aligned",
        state=state,
        parent_id=release.parent_id,
        base_release_id=await _base_of(session, alias, release),
        location=location,
        adapter_rank=release.adapter_rank,
        manifest=release.model_dump(mode="json"),
        tainted=erased is not None,
        blocked_by=erased.id if erased is not None and erased.policy == "block" else None,
        created_at=release.created_at.timestamp(),
    )
    session.add(row)
    await session.flush()
    if state == "rejected":
        gates = {gate.gate: gate.reason for gate in release.blocked_by}
        await note(session, notice.gate_failed(release.alias, release.id, release.name, release.run_id, gates))
    return row


async def _base_of(session: AsyncSession, alias: Alias, release: Release) -> str:
    """The base it was trained on: the alias may have changed to another meanwhile."""
    for row in await session.scalars(
        select(ReleaseRow).where(ReleaseRow.alias == alias.name, ReleaseRow.kind == "base")
    ):
        if row.manifest.get("base", {}).get("weights_sha256") == release.base.weights_sha256:
            return row.id
    return alias.base_release_id


async def _erasure_of_dataset(session: AsyncSession, dataset_id: str | None) -> Erasure | None:
    """The erasure that took somebody out of the data set, perhaps while the release was trained on it."""
    statement = select(Erasure).join(Dataset, Dataset.erasure_id == Erasure.id).where(Dataset.id == dataset_id)
    return await session.scalar(statement)


async def next_release_name(session: AsyncSession, alias: str, created_at: datetime) -> str:
    """The name of the alias's next release made on the day of `created_at` (UTC)."""
    prefix = f"{alias}-{created_at.astimezone(UTC):%Y%m%d}-"
    made = ReleaseRow.name.startswith(prefix, autoescape=True) & (ReleaseRow.kind == "aligned")
    statement = select(func.count()).select_from(ReleaseRow).where(made)
    return release_name(alias, created_at, (await session.scalar(statement) or 0) + 1)


async def find_release(session: AsyncSession, id_or_name: str) -> ReleaseRow | None:
    """The release with this id or name."""
    statement = select(ReleaseRow).where(or_(ReleaseRow.id == id_or_name, ReleaseRow.name == id_or_name))
    return await session.scalar(statement)


async def list_releases(session: AsyncSession, alias: str | None = None) -> Sequence[ReleaseRow]:
    """Releases, newest first; of one alias, or of all."""
    statement = select(ReleaseRow).order_by(ReleaseRow.created_at.desc(), ReleaseRow.id.desc())
    if alias is not None:
        statement = statement.where(ReleaseRow.alias == alias)
    return (await session.scalars(statement)).all()


async def releases_behind(session: AsyncSession, alias: str) -> dict[str, int]:
    """By release of the alias, how many of those that led to the serving one are newer than it."""
    rows = {row.id: row for row in await list_releases(session, alias)}
    one = rows.get((await session.get_one(Alias, alias)).serving_release_id)
    served: list[float] = []
    while one is not None and len(served) < len(rows):
        served.append(one.created_at)
        one = rows.get(one.parent_id or "")
    return {row.id: sum(at > row.created_at for at in served) for row in rows.values()}
