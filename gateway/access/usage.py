"""What keys and end users used: a question checked, answered, and spelt as CSV."""

import csv
import io
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.secrets import Secrets
from gateway.access.tally import month_of
from gateway.errors import InvalidRequest
from gateway.storage.usage import GroupBy, read_usage

COLUMNS = (
    "month",
    "key",
    "key_name",
    "project",
    "user",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet takes a cell that begins so for a formula, and runs it."""


@dataclass(frozen=True)
class UsageQuestion:
    """Which usage is asked for."""

    month: str | None = None
    key: str | None = None
    user: str | None = None
    """A plain name, as clients send it; what is kept of it is a keyed hash."""
    group_by: GroupBy = "key"

    def checked_month(self) -> str:
        """The month, this one by default. Raises `InvalidRequest`."""
        month = self.month or month_of(time.time())[0]
        if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month):
            raise InvalidRequest(f"`month` is written like 2026-11, not `{month[:20]}`.", param="month")
        return month


def checked_group(group_by: str) -> GroupBy:
    """`key` or `user`. Raises `InvalidRequest`."""
    if group_by == "user":
        return "user"
    if group_by == "key":
        return "key"
    raise InvalidRequest(f"`group_by` is `key` or `user`, not `{group_by[:20]}`.", param="group_by")


async def answer_usage(
    session: AsyncSession, secrets: Secrets, question: UsageQuestion, limit: int | None = None
) -> list[dict[str, Any]]:
    """The rows of `COLUMNS`, most tokens first; `user` is a keyed hash, empty where none was named."""
    month = question.checked_month()
    user = None if question.user is None else secrets.keyed_hash("end_user", question.user)
    rows = await read_usage(session, month, question.group_by, question.key, user, limit)
    return [
        {
            "month": month,
            "key": row["key_id"],
            "key_name": row["key_name"],
            "project": row["project_id"],
            "user": row.get("end_user_hash", user or ""),
            "requests": row["requests"],
            "prompt_tokens": row["prompt_tokens"],
            "completion_tokens": row["completion_tokens"],
            "total_tokens": row["prompt_tokens"] + row["completion_tokens"],
        }
        for row in rows
    ]


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV with a head. Nothing in it is a formula, whatever a key was named."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA_STARTS) else value
