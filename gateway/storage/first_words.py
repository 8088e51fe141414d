"""What a group of votes reads and writes, each with one statement however many they are: votes that are the first word
of their rater on their prompt. What they mean is decided in `gateway/feedback`.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Dialect
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.bare import Spoken, fetch, insert_on_sqlite
from gateway.storage.feedback_tables import Feedback, FeedbackRevision, PairRow
from gateway.storage.privacy_tables import CompletionVote
from gateway.storage.raters import Standings
from gateway.storage.ratings import LIMITED_TYPES
from gateway.storage.upsert import plain_table


@dataclass(slots=True)
class Answered:
    """What a vote needs to know of a completion."""

    id: str
    project_id: str
    key_id: str
    alias: str
    release_id: str
    status: str
    messages: list[Any]
    parameters: dict[str, Any]
    choices: list[Any]
    call_metadata: dict[str, Any]
    end_user_hash: str | None


_PLAIN = ("id", "project_id", "key_id", "alias", "release_id", "status", "end_user_hash")
_JSON = ("messages", "parameters", "choices", "call_metadata")
_TYPES = ", ".join(f"'{name}'" for name in LIMITED_TYPES)
_ANSWERED = f"SELECT {', '.join(_PLAIN + _JSON)} FROM completion WHERE id "
ANSWERED = Spoken(
    _ANSWERED + "IN (SELECT value FROM json_each(?))",
    _ANSWERED + "= ANY($1::text[])",
)
EARLIER = Spoken(
    "SELECT f.project_id, f.prompt_hash, f.rater_hash FROM json_each(?) AS wanted CROSS JOIN feedback AS f "
    "ON f.project_id = json_extract(wanted.value, '$[0]') AND f.prompt_hash = json_extract(wanted.value, '$[1]') "
    f"AND f.rater_hash = json_extract(wanted.value, '$[2]') WHERE f.type IN ({_TYPES})",
    "SELECT w.project_id, w.prompt_hash, w.rater_hash FROM unnest($1::text[], $2::text[], $3::text[]) "
    "AS w(project_id, prompt_hash, rater_hash) WHERE (SELECT true FROM feedback AS f WHERE f.project_id = w.project_id "
    f"AND f.prompt_hash = w.prompt_hash AND f.rater_hash = w.rater_hash AND f.type IN ({_TYPES}) LIMIT 1)",
)
STANDINGS = Spoken(
    "SELECT project_id, id_hash, blocked, trusted FROM rater WHERE project_id IN (SELECT value FROM json_each(?)) "
    "AND id_hash IN (SELECT value FROM json_each(?)) UNION ALL SELECT id, NULL, 0, 0 FROM api_key WHERE NOT train",
    "SELECT project_id, id_hash, blocked, trusted FROM rater WHERE project_id = ANY($1::text[]) "
    "AND id_hash = ANY($2::text[]) UNION ALL SELECT id, NULL, FALSE, FALSE FROM api_key WHERE NOT train "
    "UNION ALL SELECT set_config('plan_cache_mode', 'auto', true), '', FALSE, FALSE",
)
"""Operators' decisions on raters, and the keys that allow no training. The last row stands for nobody: from there on
PostgreSQL keeps plans again (see `LOCK`), as those by which it looks at foreign keys cost more than they do."""


async def answered_by_id(session: AsyncSession, ids: Collection[str]) -> dict[str, Answered]:
    """Those of the completions that are stored, of whatever project."""
    found = {}
    for row in await fetch(session, ANSWERED, list(ids)):
        values = dict(zip(_PLAIN, row, strict=False))
        values |= zip(_JSON, map(_decoded, row[len(_PLAIN) :]), strict=True)
        found[row[0]] = Answered(**values)
    return found


def _decoded(value: Any) -> Any:
    """JSON out of SQLite is text; PostgreSQL's driver has decoded it."""
    return msgspec.json.decode(value) if isinstance(value, str) else value


async def earlier_words(session: AsyncSession, wanted: Sequence[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Those of the wanted (project, prompt hash, rater hash) of which there is a preference, ranking or rating."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    lists = [wanted] if is_sqlite else [list(column) for column in zip(*wanted, strict=True)]
    return {(row[0], row[1], row[2]) for row in await fetch(session, EARLIER, *lists)}


async def standings_of(
    session: AsyncSession, raters: Collection[tuple[str, str]], answered: Iterable[Answered]
) -> Standings:
    """What bears on votes by these raters (project id and hash) about these completions."""
    projects, hashes = {project for project, _ in raters}, {id_hash for _, id_hash in raters}
    rows = list(await fetch(session, STANDINGS, list(projects), list(hashes)))
    forbidding = frozenset(row[0] for row in rows if row[1] is None)
    return Standings(
        blocked=frozenset((row[0], row[1]) for row in rows if row[1] is not None and row[2]),
        trusted=frozenset((row[0], row[1]) for row in rows if row[1] is not None and row[3]),
        forbidding=forbidding,
        keys={one.id: one.key_id for one in answered} if forbidding else {},
    )


@dataclass(slots=True)
class NewRows:
    """The rows of new votes, each as the values of its columns by name; JSON as text."""

    votes: list[dict[str, Any]]
    links: list[dict[str, Any]]
    """Which votes are about which completions."""
    pairs: list[dict[str, Any]]


def as_text(value: Any) -> str:
    """JSON as it is stored: lists are searched for its very characters."""
    return json.dumps(value)


async def add_first_words(session: AsyncSession, new: NewRows) -> None:
    """Store new votes, their first revisions, the completions they are about, and their pairs.

    Raises `IntegrityError` if there is a vote with the natural key of one of them.
    """
    votes = sorted(new.votes, key=lambda values: (values["project_id"], values["natural_key"]))  # or two would deadlock
    revisions = [
        {"feedback_id": vote["id"], "revision": vote["revision"], "body": vote["body"], "at": vote["updated_at"]}
        for vote in votes
    ]
    given = [votes, revisions, new.links, new.pairs]
    rows = [[tuple(map(row.__getitem__, names)) for row in some] for names, some in zip(_NAMES, given, strict=True)]
    if session.get_bind().dialect.name == "sqlite":
        await insert_on_sqlite(session, zip(_INSERTS, rows, strict=True))
        return
    arrays = [
        list(column)
        for names, some in zip(_NAMES, rows, strict=True)
        for column in (zip(*some, strict=True) if some else ((),) * len(names))
    ]
    connection = await session.connection()
    await connection.exec_driver_sql(_INSERT_ALL, tuple(arrays))


_TABLES = tuple(plain_table(table) for table in (Feedback, FeedbackRevision, CompletionVote, PairRow))
_NAMES = tuple(tuple(column.name for column in table.columns) for table in _TABLES)


def _insert(table: SqlTable) -> str:
    names = [column.name for column in table.columns]
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)})"


def _insert_all(tables: Sequence[SqlTable]) -> str:
    """One statement for all tables, of one array for each column: the same words for however many rows."""
    number, parts = 0, []
    for table in tables:
        names, arrays, values = [], [], []
        for column in table.columns:
            number += 1
            kind = column.type.compile(dialect=_POSTGRESQL)
            is_json = kind == "JSONB"
            names.append(column.name)
            arrays.append(f"${number}::{'TEXT' if is_json else kind}[]")
            values.append(f"{column.name}::JSONB" if is_json else column.name)
        into, given = f"{table.name} ({', '.join(names)})", f"unnest({', '.join(arrays)}) AS given({', '.join(names)})"
        parts.append(f"INSERT INTO {into} SELECT {', '.join(values)} FROM {given}")
    *first, last = parts
    return f"WITH {', '.join(f'part_{n} AS ({part})' for n, part in enumerate(first))} {last}"


_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_INSERTS = tuple(map(_insert, _TABLES))
_INSERT_ALL = _insert_all(_TABLES)
