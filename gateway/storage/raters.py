"""Raters as rows: their votes and pairs in numbers, and what an operator decided about them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import exists, func, literal, null, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from gateway.storage.privacy_tables import RaterRow
from gateway.storage.tables import ApiKey

BLOCKED = "rater_blocked"
"""Why a pair of a blocked rater is held."""


@dataclass(frozen=True)
class Standing:
    """What bears on a vote besides what it says."""

    blocked: bool = False
    trusted: bool = False
    may_train: bool = True
    """Whether the key of the vote, and those of the completions it is about, allow training."""


NOTHING_DECIDED = Standing()


@dataclass
class RaterFigures:
    """One rater in numbers."""

    id_hash: str
    project_id: str
    kinds: set[str] = field(default_factory=set)
    votes: dict[str, int] = field(default_factory=dict)
    """By type."""
    first_vote_at: float = 0.0
    last_vote_at: float = 0.0
    pairs: dict[str, int] = field(default_factory=dict)
    """By state."""


@dataclass(frozen=True)
class Standings:
    """What bears on several votes, looked up at once."""

    blocked: frozenset[tuple[str, str]]
    """Project id and hash of the raters who are."""
    trusted: frozenset[tuple[str, str]]
    forbidding: frozenset[str]
    """Ids of the keys that allow no training."""
    keys: Mapping[str, str]
    """Completion to key, where there are such keys."""

    def of(self, project_id: str, rater_hash: str, key_id: str, completion_ids: Iterable[str]) -> Standing:
        """How a vote by this rater with this key about these completions stands."""
        rater = (project_id, rater_hash)
        if not (self.blocked or self.trusted or self.forbidding):
            return NOTHING_DECIDED
        with_part = {key_id, *(self.keys[one] for one in completion_ids if one in self.keys)}
        return Standing(rater in self.blocked, rater in self.trusted, self.forbidding.isdisjoint(with_part))


async def load_standings(
    session: AsyncSession, raters: Collection[tuple[str, str]], completion_ids: Collection[str]
) -> Standings:
    """What bears on votes by these raters (project id and hash) about these completions: one statement, however many
    votes; a second if there are keys that allow no training."""
    projects, hashes = {project for project, _ in raters}, {id_hash for _, id_hash in raters}
    named = (RaterRow.project_id.in_(projects), RaterRow.id_hash.in_(hashes))
    nobody = literal(False)
    found = await session.execute(
        select(RaterRow.project_id, RaterRow.id_hash, RaterRow.blocked, RaterRow.trusted)
        .where(*named)
        .union_all(select(ApiKey.id, null(), nobody, nobody).where(ApiKey.train.is_(False)))
    )
    rows = found.all()
    decided = [row for row in rows if row.id_hash is not None]
    forbidding = frozenset(row.project_id for row in rows if row.id_hash is None)
    keys: dict[str, str] = {}
    if forbidding and completion_ids:
        asked = select(Completion.id, Completion.key_id).where(Completion.id.in_(set(completion_ids)))
        keys = {row.id: row.key_id for row in await session.execute(asked)}
    return Standings(
        blocked=frozenset((row.project_id, row.id_hash) for row in decided if row.blocked),
        trusted=frozenset((row.project_id, row.id_hash) for row in decided if row.trusted),
        forbidding=forbidding,
        keys=keys,
    )


async def page_of_raters(session: AsyncSession, after: str, limit: int) -> Sequence[str]:
    """Hashes of raters who voted, in their order, from the one behind `after` on."""
    statement = select(Feedback.rater_hash).where(Feedback.rater_hash > after).distinct()
    return (await session.scalars(statement.order_by(Feedback.rater_hash).limit(limit))).all()


async def figures_of(session: AsyncSession, raters: Sequence[str]) -> list[RaterFigures]:
    """These raters in numbers, in the order of their hashes; those who never voted are left out."""
    votes = (
        select(
            Feedback.rater_hash, Feedback.project_id, Feedback.rater_kind, Feedback.type, func.count(),
            func.min(Feedback.created_at), func.max(Feedback.updated_at),
        )
        .where(Feedback.rater_hash.in_(raters))
        .group_by(Feedback.rater_hash, Feedback.project_id, Feedback.rater_kind, Feedback.type)
    )  # fmt: skip
    found: dict[str, RaterFigures] = {}
    for id_hash, project_id, kind, type_, count, first, last in await session.execute(votes):
        rater = found.setdefault(id_hash, RaterFigures(id_hash, project_id, first_vote_at=first, last_vote_at=last))
        rater.kinds.add(kind)
        rater.votes[type_] = rater.votes.get(type_, 0) + count
        rater.first_vote_at, rater.last_vote_at = min(rater.first_vote_at, first), max(rater.last_vote_at, last)
    for id_hash, states in (await _pairs_of(session, list(found))).items():
        found[id_hash].pairs = states
    return [found[id_hash] for id_hash in sorted(found)]


async def decisions_on(session: AsyncSession, raters: Sequence[str]) -> dict[str, RaterRow]:
    """What was decided about these raters, by hash."""
    return {row.id_hash: row for row in await session.scalars(select(RaterRow).where(RaterRow.id_hash.in_(raters)))}


async def hold_votes(session: AsyncSession, rater_hash: str) -> None:
    """Hold a rater's active votes and eligible pairs."""
    own = select(Feedback.id).where(Feedback.rater_hash == rater_hash)
    await _update(
        session,
        update(PairRow)
        .where(PairRow.feedback_id.in_(own), PairRow.state == "eligible")
        .values(state="held", reason=BLOCKED),
    )
    active = (Feedback.rater_hash == rater_hash, Feedback.status == "active")
    await _update(session, update(Feedback).where(*active).values(status="held"))


async def release_votes(session: AsyncSession, rater_hash: str) -> None:
    """Undo `hold_votes`; what is held for another reason stays held."""
    otherwise = exists(
        select(PairRow.id).where(
            PairRow.feedback_id == Feedback.id, PairRow.state == "held", PairRow.reason.is_distinct_from(BLOCKED)
        )
    )
    held = (Feedback.rater_hash == rater_hash, Feedback.status == "held", ~otherwise)
    await _update(session, update(Feedback).where(*held).values(status="active"))
    own = select(Feedback.id).where(Feedback.rater_hash == rater_hash)
    blocked = (PairRow.feedback_id.in_(own), PairRow.state == "held", PairRow.reason == BLOCKED)
    await _update(session, update(PairRow).where(*blocked).values(state="eligible", reason=None))


async def _pairs_of(session: AsyncSession, raters: Sequence[str]) -> dict[str, dict[str, int]]:
    statement = (
        select(Feedback.rater_hash, PairRow.state, func.count())
        .join(PairRow, PairRow.feedback_id == Feedback.id)
        .where(Feedback.rater_hash.in_(raters))
        .group_by(Feedback.rater_hash, PairRow.state)
    )
    states: dict[str, dict[str, int]] = defaultdict(dict)
    for id_hash, state, count in await session.execute(statement):
        states[id_hash][state] = count
    return states


async def _update(session: AsyncSession, statement: object) -> None:
    await session.execute(statement.execution_options(synchronize_session=False))  # type: ignore[attr-defined]
