"""Votes as rows: store once, revise, find, list. What a vote means is decided in `gateway/feedback`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, Text, cast, func, literal_column, select, tuple_, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Completion, Feedback, FeedbackRevision
from gateway.storage.tables import Alias
from gateway.storage.votes_of import link_completions


async def find_completions(session: AsyncSession, project_id: str, ids: Iterable[str]) -> dict[str, Completion]:
    """Those of the completions that are stored and belong to the project, by id."""
    statement = select(Completion).where(Completion.id.in_(set(ids)), Completion.project_id == project_id)
    return {completion.id: completion for completion in await session.scalars(statement)}


async def insert_feedback(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Store a vote, unless the project has one with its natural key; says whether it was stored.

    Of several transactions that try at once, one stores; the others wait for it and are told no.
    """
    insert_into = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert_into(Feedback).values(values).on_conflict_do_nothing().returning(Feedback.id)
    return await session.scalar(statement) is not None


async def lock_feedback(session: AsyncSession, project_id: str, natural_key: str) -> Feedback:
    """The vote with this natural key, kept from other writers until the transaction ends."""
    statement = select(Feedback).where(Feedback.project_id == project_id, Feedback.natural_key == natural_key)
    return (await session.scalars(_locked(statement))).one()


async def find_feedback(
    session: AsyncSession, project_id: str, feedback_id: str, *, lock: bool = False
) -> Feedback | None:
    """A vote of the project by id."""
    statement = select(Feedback).where(Feedback.id == feedback_id, Feedback.project_id == project_id)
    return await session.scalar(_locked(statement) if lock else statement)


async def add_revision(session: AsyncSession, feedback: Feedback) -> None:
    """Append the present body of a vote to its history, and note which completions it is about."""
    session.add(
        FeedbackRevision(
            feedback_id=feedback.id, revision=feedback.revision, body=feedback.body, at=feedback.updated_at
        )
    )
    await session.flush()
    await link_completions(session, [(feedback.id, feedback.body)])


@dataclass(frozen=True)
class Wanted:
    """Which votes of a project are asked for; what is None or empty does not matter."""

    type: str | None = None
    status: str | None = None
    rater_hash: str | None = None
    completion_id: str | None = None
    prompt_hash: str | None = None
    """Of the completion, where it is known: it has an index."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after: float | None = None
    """Unix seconds; this moment itself is left out, as with the next one."""
    created_before: float | None = None


async def list_feedback(
    session: AsyncSession,
    project_id: str,
    *,
    limit: int,
    after: Feedback | None,
    order: Literal["asc", "desc"],
    wanted: Wanted,
) -> Sequence[Feedback]:
    """Votes of the project by age, from the one behind `after` on."""
    place = tuple_(Feedback.created_at, Feedback.id)
    statement = select(Feedback).where(Feedback.project_id == project_id, *_conditions(session, wanted))
    if after is not None:
        cursor = tuple_(after.created_at, after.id)
        statement = statement.where(place > cursor if order == "asc" else place < cursor)
    columns = (Feedback.created_at, Feedback.id)
    statement = statement.order_by(*(column.asc() if order == "asc" else column.desc() for column in columns))
    return (await session.scalars(statement.limit(limit))).all()


def _conditions(session: AsyncSession, wanted: Wanted) -> list[ColumnElement[bool]]:
    exact = (Feedback.type, Feedback.status, Feedback.rater_hash, Feedback.prompt_hash)
    values = (wanted.type, wanted.status, wanted.rater_hash, wanted.prompt_hash)
    conditions = [column == value for column, value in zip(exact, values, strict=True) if value is not None]
    if wanted.status not in (None, "active"):
        conditions.append(Feedback.status != literal_column("'active'"))  # the words of that index
    if wanted.completion_id is not None:
        named = f'"completion_id": "{wanted.completion_id}"'  # both databases write JSON with this space
        conditions.append(cast(Feedback.body, Text).contains(named, autoescape=True))
    if wanted.created_after is not None:
        conditions.append(Feedback.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(Feedback.created_at < wanted.created_before)
    return conditions + [_tagged(session, key, value) for key, value in wanted.metadata.items()]


def _tagged(session: AsyncSession, key: str, value: str) -> ColumnElement[bool]:
    """Whether the vote's metadata has this entry; the key may hold any character."""
    if session.get_bind().dialect.name == "postgresql":
        return type_coerce(Feedback.body, postgresql.JSONB).contains({"metadata": {key: value}})
    entry = func.json_each(Feedback.body, "$.metadata").table_valued("key", "value")
    return select(1).select_from(entry).where(entry.c.key == key, entry.c.value == value).exists()


async def aliases_of_project(session: AsyncSession, project_id: str) -> list[str]:
    """The names of the project's aliases that can be trained."""
    own = (Alias.project_id == project_id, Alias.task == "chat")
    return list(await session.scalars(select(Alias.name).where(*own).order_by(Alias.name)))


async def trainable_aliases(session: AsyncSession) -> list[str]:
    """The names of all aliases that can be trained."""
    return list(await session.scalars(select(Alias.name).where(Alias.task == "chat").order_by(Alias.name)))


def _locked(statement: Select[Feedback]) -> Select[Feedback]:
    return statement.with_for_update().execution_options(populate_existing=True)
