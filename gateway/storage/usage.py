"""What keys and end users used, by UTC month, as rows."""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.tables import ApiKey, Usage

COUNTS = ("requests", "prompt_tokens", "completion_tokens")
GroupBy = Literal["key", "user"]


def _add(dialect: Any) -> Any:
    statement = dialect.insert(Usage)
    return statement.on_conflict_do_update(
        index_elements=["month", "key_id", "end_user_hash"],
        set_={name: getattr(Usage, name) + statement.excluded[name] for name in COUNTS},
    )


_ADD = {"postgresql": _add(postgresql), "sqlite": _add(sqlite)}


async def add_usage(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Add the counts of each row to what is there for its month, key and end user."""
    # One order for all workers, so that none waits for another in a circle.
    ordered = sorted(rows, key=lambda row: (row["month"], row["key_id"], row["end_user_hash"]))
    connection = await session.connection()
    await connection.execute(_ADD[connection.dialect.name], ordered)


async def read_usage(
    session: AsyncSession,
    month: str,
    group_by: GroupBy = "key",
    key_id: str | None = None,
    end_user_hash: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """A month's usage by key, or by key and end user; most tokens first."""
    whose = [Usage.key_id, Usage.project_id] + ([Usage.end_user_hash] if group_by == "user" else [])
    sums = [func.sum(getattr(Usage, name)).label(name) for name in COUNTS]
    statement = (
        select(*whose, func.coalesce(ApiKey.name, "").label("key_name"), *sums)
        .outerjoin(ApiKey, ApiKey.id == Usage.key_id)
        .where(Usage.month == month)
        .group_by(*whose, ApiKey.name)
        .order_by((func.sum(Usage.prompt_tokens) + func.sum(Usage.completion_tokens)).desc(), *whose)
        .limit(limit)
    )
    if key_id is not None:
        statement = statement.where(Usage.key_id == key_id)
    if end_user_hash is not None:
        statement = statement.where(Usage.end_user_hash == end_user_hash)
    return [_whole(row) for row in (await session.execute(statement)).mappings()]


def _whole(row: Any) -> dict[str, Any]:
    # PostgreSQL sums whole numbers to decimals.
    return dict(row) | {name: int(row[name]) for name in COUNTS}
