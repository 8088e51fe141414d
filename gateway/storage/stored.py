"""Stored completions as rows: find, list, tag, delete. Everything is bounded by the caller's project."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import ColumnElement, Select, delete, func, literal, or_, select, tuple_, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Completion
from gateway.storage.tables import ReleaseRow

Order = Literal["asc", "desc"]
COMPARISON_KEY = "key_comparison"
"""The key of second answers that the gateway asked for by itself: no client sees these."""


@dataclass(frozen=True)
class Stored:
    """A completion and the name of the release that wrote it."""

    row: Completion
    release_name: str


@dataclass(frozen=True)
class Page:
    """Which completions are asked for."""

    limit: int
    order: Order = "asc"
    behind: tuple[float, str] | None = None
    """Time and id of the last one of the page before."""
    model: str | None = None
    """An alias, or the name of a release."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Entries it must have."""


async def find_stored(
    session: AsyncSession, project_id: str, completion_id: str, *, lock: bool = False
) -> Stored | None:
    """A completion of the project."""
    statement = _of(project_id).where(Completion.id == completion_id)
    if lock:
        statement = statement.with_for_update(of=Completion).execution_options(populate_existing=True)
    found = (await session.execute(statement)).one_or_none()
    return None if found is None else Stored(found[0], found[1] or found[0].release_id)


async def list_stored(session: AsyncSession, project_id: str, page: Page) -> Sequence[Stored]:
    """The page's completions by age, and one more if there is one behind them."""
    statement = _of(project_id)
    place = tuple_(Completion.created_at, Completion.id)
    if page.behind is not None:
        cursor = tuple_(*(literal(part) for part in page.behind))
        statement = statement.where(place > cursor if page.order == "asc" else place < cursor)
    if page.model is not None:
        statement = statement.where(or_(Completion.alias == page.model, ReleaseRow.name == page.model))
    for key, value in page.metadata.items():
        statement = statement.where(_tagged(session, key, value))
    columns = (Completion.created_at, Completion.id)
    statement = statement.order_by(*(column.asc() if page.order == "asc" else column.desc() for column in columns))
    rows = await session.execute(statement.limit(page.limit + 1))
    return [Stored(row, name or row.release_id) for row, name in rows]


async def delete_stored(session: AsyncSession, project_id: str, completion_id: str) -> bool:
    """Forget a completion of the project; says whether there was one."""
    statement = delete(Completion).where(Completion.id == completion_id, Completion.project_id == project_id)
    result = await session.execute(statement)
    return bool(result.rowcount)  # type: ignore[attr-defined]


def _of(project_id: str) -> Select[Completion, str]:
    joined = select(Completion, ReleaseRow.name).outerjoin(ReleaseRow, ReleaseRow.id == Completion.release_id)
    return joined.where(Completion.project_id == project_id, Completion.key_id != COMPARISON_KEY)


def _tagged(session: AsyncSession, key: str, value: str) -> ColumnElement[bool]:
    """Whether the completion's metadata has this entry; the key may hold any character."""
    if session.get_bind().dialect.name == "postgresql":
        return type_coerce(Completion.call_metadata, JSONB).contains({key: value})
    entry = func.json_each(Completion.call_metadata).table_valued("key", "value")
    return select(1).select_from(entry).where(entry.c.key == key, entry.c.value == value).exists()
