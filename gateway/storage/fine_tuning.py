"""Runs as a project sees them: those of its own aliases, their events and checkpoints, page by page."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Dataset, Run, RunEvent
from gateway.storage.tables import Alias, ReleaseRow


async def find_job(session: AsyncSession, project_id: str, run_id: str, *, locked: bool = False) -> Run | None:
    """A run of the project. `locked`: nobody else changes it in this transaction."""
    statement = _jobs(project_id).where(Run.id == run_id)
    return await session.scalar(statement.with_for_update(of=Run) if locked else statement)


async def list_jobs(
    session: AsyncSession, project_id: str, *, limit: int, after: Run | None, metadata: Mapping[str, str]
) -> Sequence[Run]:
    """At most `limit` runs of the project, newest first, from the one behind `after` on; `metadata`: they have it."""
    statement = _jobs(project_id)
    for name, value in metadata.items():
        statement = statement.where(Run.asked["metadata"][name].as_string() == value)
    if after is not None:
        statement = statement.where(tuple_(Run.created_at, Run.id) < tuple_(after.created_at, after.id))
    return (await session.scalars(statement.order_by(Run.created_at.desc(), Run.id.desc()).limit(limit))).all()


async def find_repeated(session: AsyncSession, actor: str, digest: str, since: float) -> Run | None:
    """The first run that the same request of the same key made since then."""
    made = (Run.actor == actor, Run.asked_sha256 == digest, Run.created_at >= since)
    return await session.scalar(select(Run).where(*made).order_by(Run.created_at, Run.id).limit(1))


async def page_of_events(session: AsyncSession, run_id: str, *, limit: int, after: str | None) -> Sequence[RunEvent]:
    """At most `limit` events of a run, newest first, from the one behind `after` on."""
    statement = select(RunEvent).where(RunEvent.run_id == run_id)
    if after is not None:
        statement = statement.where(RunEvent.id < after)
    return (await session.scalars(statement.order_by(RunEvent.id.desc()).limit(limit))).all()


async def checkpoints_of(session: AsyncSession, run_id: str) -> list[RunEvent]:
    """The checkpoints of a run, newest first; a step that was done again counts once."""
    statement = select(RunEvent).where(RunEvent.run_id == run_id, RunEvent.type == "checkpoint")
    by_step = {event.data["step"]: event for event in await session.scalars(statement.order_by(RunEvent.id))}
    return sorted(by_step.values(), key=lambda event: event.id, reverse=True)


async def find_own_dataset(session: AsyncSession, project_id: str, dataset_id: str) -> Dataset | None:
    """A data set of one of the project's aliases."""
    owned = select(Dataset).join(Alias, Alias.name == Dataset.alias).where(Alias.project_id == project_id)
    return await session.scalar(owned.where(Dataset.id == dataset_id))


async def names_of(session: AsyncSession, runs: Sequence[Run]) -> dict[str, str]:
    """The names of the releases that runs made, by id."""
    made = [run.release_id for run in runs if run.release_id is not None]
    rows = await session.execute(select(ReleaseRow.id, ReleaseRow.name).where(ReleaseRow.id.in_(made)))
    return {row[0]: row[1] for row in rows}


async def aliases_on(session: AsyncSession, project_id: str, base: str) -> list[Alias]:
    """The project's aliases that stand on this base model: by its name, or that of the base release."""
    statement = (
        select(Alias, ReleaseRow)
        .join(ReleaseRow, ReleaseRow.id == Alias.base_release_id)
        .where(Alias.project_id == project_id, Alias.task == "chat")
        .order_by(Alias.name)
    )
    found = (await session.execute(statement)).all()
    return [row[0] for row in found if base in (row[1].name, row[1].id, row[1].manifest.get("base", {}).get("model"))]


def _jobs(project_id: str) -> Select[Run]:
    return select(Run).join(Alias, Alias.name == Run.alias).where(Alias.project_id == project_id)
