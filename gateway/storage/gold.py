"""Gold items as rows, and how often raters were right on them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.annotation_tables import AnnotationGold, AnnotationVerdict


@dataclass(frozen=True)
class GoldScore:
    """How often a rater chose the known answer."""

    right: int
    given: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.right / self.given


async def active_gold(session: AsyncSession, project_id: str, item: str) -> AnnotationGold | None:
    """The gold item in use on these two answers."""
    own = (AnnotationGold.project_id == project_id, AnnotationGold.item == item, AnnotationGold.retired_at.is_(None))
    return await session.scalar(select(AnnotationGold).where(*own).limit(1))


async def all_gold(session: AsyncSession, project_id: str) -> Sequence[AnnotationGold]:
    """The gold items in use, oldest first."""
    own = (AnnotationGold.project_id == project_id, AnnotationGold.retired_at.is_(None))
    return (await session.scalars(select(AnnotationGold).where(*own).order_by(AnnotationGold.id))).all()


async def find_gold(session: AsyncSession, project_id: str, gold_id: str) -> AnnotationGold | None:
    """A gold item of the project."""
    own = (AnnotationGold.project_id == project_id, AnnotationGold.id == gold_id)
    return await session.scalar(select(AnnotationGold).where(*own).with_for_update())


async def gold_scores(session: AsyncSession, project_id: str) -> dict[str, GoldScore]:
    """The score of each rater (by keyed hash) who judged a gold item of the project; skipped and undone ones aside."""
    statement = (
        select(
            AnnotationVerdict.rater_hash,
            func.count().filter(AnnotationVerdict.right.is_(True)),
            func.count(),
        )
        .where(
            AnnotationVerdict.project_id == project_id,
            AnnotationVerdict.right.is_not(None),
            AnnotationVerdict.undone_at.is_(None),
        )
        .group_by(AnnotationVerdict.rater_hash)
        .order_by(AnnotationVerdict.rater_hash)
    )
    return {rater_hash: GoldScore(right, given) for rater_hash, right, given in await session.execute(statement)}
