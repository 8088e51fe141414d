"""Everything that is stored about one user, as rows."""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Completion, Dataset, Feedback, FeedbackRevision, PairRow
from gateway.storage.privacy_tables import CompletionVote, PairVote
from gateway.storage.tables import ReleaseRow, Usage


async def completions_of(session: AsyncSession, end_user: str, project_id: str | None) -> Sequence[Completion]:
    """The user's completions, oldest first."""
    statement = select(Completion).where(Completion.end_user_hash == end_user)
    if project_id is not None:
        statement = statement.where(Completion.project_id == project_id)
    return (await session.scalars(statement.order_by(Completion.created_at, Completion.id))).all()


async def votes_of(session: AsyncSession, raters: Sequence[str]) -> Sequence[Feedback]:
    """The user's votes, oldest first."""
    statement = select(Feedback).where(Feedback.rater_hash.in_(raters))
    return (await session.scalars(statement.order_by(Feedback.created_at, Feedback.id))).all()


async def revisions_of(session: AsyncSession, votes: Sequence[Feedback]) -> Sequence[FeedbackRevision]:
    """What the votes said over time, in order."""
    mine = FeedbackRevision.feedback_id.in_([vote.id for vote in votes])
    statement = select(FeedbackRevision).where(mine)
    return (await session.scalars(statement.order_by(FeedbackRevision.feedback_id, FeedbackRevision.revision))).all()


async def pairs_of(
    session: AsyncSession, end_user: str, raters: Sequence[str], project_id: str | None
) -> Sequence[PairRow]:
    """Pairs from the user's votes, and from anybody's on the user's completions, oldest first."""
    about = select(CompletionVote.feedback_id).where(CompletionVote.end_user_hash == end_user)
    own = select(Feedback.id).where(Feedback.rater_hash.in_(raters))
    shared = select(PairVote.pair_id).where(PairVote.feedback_id.in_(own))
    statement = select(PairRow).where(
        or_(PairRow.feedback_id.in_(own), PairRow.feedback_id.in_(about), PairRow.id.in_(shared))
    )
    if project_id is not None:
        statement = statement.where(PairRow.project_id == project_id)
    return (await session.scalars(statement.order_by(PairRow.created_at, PairRow.id))).all()


async def usage_of(session: AsyncSession, end_user: str, project_id: str | None) -> Sequence[Usage]:
    """What the user used, by month and key."""
    statement = select(Usage).where(Usage.end_user_hash == end_user)
    if project_id is not None:
        statement = statement.where(Usage.project_id == project_id)
    return (await session.scalars(statement.order_by(Usage.month, Usage.key_id))).all()


async def datasets_on_disk(session: AsyncSession) -> Sequence[Dataset]:
    """Data sets whose files are there."""
    return (await session.scalars(select(Dataset).where(Dataset.removed_at.is_(None)).order_by(Dataset.id))).all()


async def trained_on(session: AsyncSession, datasets: set[str]) -> list[ReleaseRow]:
    """The releases trained on these data sets, or on ones that these replaced: what was in these was in those."""
    replacing = await session.execute(select(Dataset.id, Dataset.replaced_by).where(Dataset.replaced_by.is_not(None)))
    older = {new: old for old, new in replacing}
    found = set(datasets)
    for dataset in datasets:
        while (dataset := older.get(dataset, "")) and dataset not in found:
            found.add(dataset)
    releases = await session.scalars(select(ReleaseRow).order_by(ReleaseRow.id))
    return [release for release in releases if release.manifest.get("dataset_id") in found]
