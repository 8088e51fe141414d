"""Indexes that lists and data sets are read from, and counts of votes and pairs that triggers keep"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

RULES = [
    "alias", "prompt_hash", "created_at", "id", "state", "reason", "project_id", "feedback_id", "chosen_digest",
    "rejected_digest", "rater_hash", "rater_kind", "rater_trusted", "basis", "source", "weight", "chosen_release",
    "rejected_release",
]  # fmt: skip
SLOTS = 16
"""Connections to PostgreSQL count in slots of their own: none waits until another one's transaction is over."""
DAY = {
    "sqlite": "date({row}.created_at, 'unixepoch')",
    "postgresql": "to_char(timezone('UTC', to_timestamp({row}.created_at)), 'YYYY-MM-DD')",
}
LICENCE = {"sqlite": "json_extract({row}.body, '$.licence')", "postgresql": "{row}.body->>'licence'"}
KEYS = {
    "vote_tally": ("alias", "day", "type", "status"),
    "rater_tally": ("alias", "rater_kind", "rater_hash"),
    "pair_tally": ("alias", "state", "reason", "source", "licence"),
}
COUNTED = {"feedback": ("vote_tally", "rater_tally"), "feedback_pair": ("pair_tally",)}
WATCHED = {
    "feedback": "alias, type, status, rater_kind, rater_hash, created_at",
    "feedback_pair": "alias, state, reason, source",
}


def upgrade() -> None:
    """Exact at every moment: a count changes in the transaction that changes what is counted."""
    op.drop_index("ix_feedback_project_id_created_at", table_name="feedback")
    op.create_index("ix_feedback_page", "feedback", ["project_id", "created_at", "id", "type", "status"], unique=False)
    op.drop_index("ix_feedback_pair_alias_prompt_hash", table_name="feedback_pair")
    op.create_index("ix_feedback_pair_rules", "feedback_pair", RULES, unique=False)
    for tally, key in KEYS.items():
        op.create_table(
            tally,
            *(sa.Column(name, sa.String(), nullable=False) for name in key),
            sa.Column("slot", sa.BigInteger(), nullable=False),
            sa.Column("count", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint(*key, "slot", name=op.f(f"pk_{tally}")),
            sqlite_with_rowid=False,
        )
    op.create_index(op.f("ix_rater_tally_rater_hash"), "rater_tally", ["rater_hash"], unique=False)
    dialect = op.get_bind().dialect.name
    for table, tallies in COUNTED.items():
        for tally in tallies:
            op.execute(counted(dialect, tally, [(table, 1)], "0"))
        for statement in (sqlite_triggers if dialect == "sqlite" else postgresql_triggers)(table):
            op.execute(statement)


def values_of(dialect: str, tally: str, row: str) -> list[str]:
    """What a row is counted by, as SQL; in the order of `KEYS`."""
    alias = f"coalesce({row}.alias, '')"
    if tally == "vote_tally":
        return [alias, DAY[dialect].format(row=row), f"{row}.type", f"{row}.status"]
    if tally == "rater_tally":
        return [alias, f"{row}.rater_kind", f"{row}.rater_hash"]
    licence = f"CASE WHEN {row}.source IS NULL THEN '' ELSE coalesce({LICENCE[dialect].format(row=row)}, '') END"
    return [alias, f"{row}.state", f"coalesce({row}.reason, '')", f"coalesce({row}.source, '')", licence]


def is_counted(tally: str, row: str) -> str:
    """Which rows count, as SQL."""
    return f"{row}.status = 'active'" if tally == "rater_tally" else "true"


def counted(dialect: str, tally: str, rows: list[tuple[str, int]], slot: str) -> str:
    """A statement that adds what tables come to; `rows`: their names, and 1 or -1 for each."""
    key = ", ".join(KEYS[tally])
    parts = []
    for table, number in rows:
        values = zip(values_of(dialect, tally, table), KEYS[tally], strict=True)
        chosen = ", ".join(f"{value} AS {name}" for value, name in values)
        parts.append(f"SELECT {chosen}, {number} AS number FROM {table} WHERE {is_counted(tally, table)}")
    return (
        f"INSERT INTO {tally} ({key}, slot, count) SELECT {key}, {slot}, sum(number) "
        f"FROM ({' UNION ALL '.join(parts)}) AS facts GROUP BY {key} HAVING sum(number) <> 0 ORDER BY {key} "
        f"ON CONFLICT ({key}, slot) DO UPDATE SET count = {tally}.count + excluded.count"
    )


def sqlite_triggers(table: str) -> Iterator[str]:
    """A row at a time; a count of 0 is no row."""
    for event, when in (("INSERT", "INSERT"), ("DELETE", "DELETE"), ("UPDATE", f"UPDATE OF {WATCHED[table]}")):
        lines: list[str] = []
        for tally in COUNTED[table]:
            if event != "INSERT":
                lines += _one_row(tally, "OLD", -1)
            if event != "DELETE":
                lines += _one_row(tally, "NEW", 1)
        yield f"CREATE TRIGGER tally_{table}_{event.lower()} AFTER {when} ON {table} BEGIN {' '.join(lines)} END"


def _one_row(tally: str, row: str, number: int) -> Iterator[str]:
    key, values = KEYS[tally], values_of("sqlite", tally, row)
    yield (
        f"INSERT INTO {tally} ({', '.join(key)}, slot, count) SELECT {', '.join(values)}, 0, {number} "
        f"WHERE {is_counted(tally, row)} ON CONFLICT ({', '.join(key)}, slot) DO UPDATE SET count = count + {number};"
    )
    if number < 0:
        same = " AND ".join(f"{name} = {value}" for name, value in zip(key, values, strict=True))
        yield f"DELETE FROM {tally} WHERE {same} AND count = 0;"


def postgresql_triggers(table: str) -> Iterator[str]:
    """A statement at a time, from all of its rows."""
    slot = f"pg_backend_pid() % {SLOTS}"
    for event, rows, referencing in (
        ("INSERT", [("added", 1)], "NEW TABLE AS added"),
        ("DELETE", [("gone", -1)], "OLD TABLE AS gone"),
        ("UPDATE", [("gone", -1), ("added", 1)], "OLD TABLE AS gone NEW TABLE AS added"),
    ):
        name = f"tally_{table}_{event.lower()}"
        body = " ".join(f"{counted('postgresql', tally, rows, slot)};" for tally in COUNTED[table])
        yield f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
        yield (
            f"CREATE TRIGGER {name} AFTER {event} ON {table} REFERENCING {referencing} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )
