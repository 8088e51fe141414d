"""Usage is counted once, by key, end user and month, and told without harm to spreadsheets."""

import csv
import io
import time
from datetime import UTC, datetime

import pytest

from gateway.access.caller import Caller
from gateway.access.limits import Limiter
from gateway.access.secrets import Secrets
from gateway.access.tally import MAX_ENTRIES, UsageTally, month_of
from gateway.access.usage import UsageQuestion, answer_usage, as_csv
from gateway.errors import DatabaseUnavailable, InvalidRequest
from gateway.storage import keys
from gateway.storage.database import Database

SECRETS = Secrets("root")
MONTH = datetime.now(UTC).strftime("%Y-%m")


def limiter_on(database: Database) -> Limiter:
    return Limiter(Database(database.url), "gw_1")


def answered(limiter: Limiter, key: str, tokens: tuple[int, int], user: str | None = None) -> None:
    admission = limiter.try_admit(Caller(key, "proj_1", frozenset(), key), 10)
    assert admission is not None
    admission.settle(*tokens, SECRETS.keyed_hash("end_user", user) if user else None)
    admission.settle(1000, 1000, "twice")  # counts for nothing


async def asked(database: Database, **question: str) -> list[dict[str, object]]:
    async with database.read() as session:
        return await answer_usage(session, SECRETS, UsageQuestion(**question))  # type: ignore[arg-type]


async def test_two_workers_add_up_by_key_and_by_end_user(database: Database) -> None:
    one, other = limiter_on(database), limiter_on(database)
    answered(one, "key_a", (10, 1), "ann")
    answered(one, "key_a", (20, 2))
    answered(one, "key_b", (5, 5), "bob")
    await one.flush_usage()
    answered(other, "key_a", (100, 10), "ann")
    answered(one, "key_a", (1000, 100), "ann")
    await other.close()  # writes down what it has counted
    await one.close()
    by_key = [
        (row["key"], row["requests"], row["prompt_tokens"], row["completion_tokens"], row["total_tokens"])
        for row in await asked(database)
    ]
    assert by_key == [("key_a", 4, 1130, 113, 1243), ("key_b", 1, 5, 5, 10)]
    ann = SECRETS.keyed_hash("end_user", "ann")
    by_user = [(row["key"], row["user"], row["requests"]) for row in await asked(database, group_by="user")]
    assert by_user == [("key_a", ann, 3), ("key_a", "", 1), ("key_b", SECRETS.keyed_hash("end_user", "bob"), 1)]
    assert [(row["key"], row["user"], row["total_tokens"]) for row in await asked(database, user="ann")] == [
        ("key_a", ann, 1221)
    ]
    assert [row["total_tokens"] for row in await asked(database, key="key_b")] == [10]
    assert await asked(database, month="2001-01") == []


async def test_what_could_not_be_written_is_written_later_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = limiter_on(database)
    answered(limiter, "key_a", (3, 4))

    async def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr("gateway.access.limits.add_usage", away)
        await limiter.flush_usage()
    answered(limiter, "key_a", (10, 10))
    await limiter.flush_usage()
    await limiter.close()
    assert [(row["requests"], row["total_tokens"]) for row in await asked(database)] == [(2, 27)]


def test_a_request_counts_in_the_month_in_which_it_ended() -> None:
    now = datetime(2026, 11, 30, 23, 59, 59, 900_000, tzinfo=UTC).timestamp()
    tally = UsageTally(lambda: now)
    tally.add("key", "proj", None, 1, 1)
    now += 0.2
    tally.add("key", "proj", None, 2, 2)
    assert {whose.month: counts for whose, counts in tally.take().items()} == {
        "2026-11": [1, 1, 1],
        "2026-12": [1, 2, 2],
    }


def test_december_is_followed_by_january() -> None:
    name, starts, ends = month_of(datetime(2026, 12, 31, 12, tzinfo=UTC).timestamp())
    assert name == "2026-12"
    assert starts == datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    assert ends == datetime(2027, 1, 1, tzinfo=UTC).timestamp()


def test_endless_end_users_do_not_fill_the_memory() -> None:
    tally = UsageTally(time.time)
    for number in range(MAX_ENTRIES + 500):
        tally.add("key", "proj", f"user-{number}", 1, 0)
    counts = tally.take()
    assert len(counts) == MAX_ENTRIES + 1
    assert sum(numbers[0] for numbers in counts.values()) == MAX_ENTRIES + 500


async def test_a_key_s_name_is_no_formula_in_a_spreadsheet(database: Database) -> None:
    names = ['=HYPERLINK("http://evil.example")', "+1", "-1", "@sum", " =1", "plain, with a comma"]
    limiter = limiter_on(database)
    async with database.write() as session:
        project = await keys.ensure_project(session)
        made = [(await keys.create_key(session, project.id, name, ["inference"]))[0].id for name in names]
    for key_id in made:
        answered(limiter, key_id, (1, 1))
    await limiter.close()
    rows = list(csv.DictReader(io.StringIO(as_csv(await asked(database)))))
    told = {row["key"]: row["key_name"] for row in rows}
    assert [told[key_id] for key_id in made] == [f"'{name}" for name in names[:5]] + [names[5]]
    assert [row["total_tokens"] for row in rows] == ["2"] * 6


@pytest.mark.parametrize("month", ["2026-13", "2026", "november", "2026-1", "2026-11-01"])
def test_a_month_is_spelt_in_one_way(month: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        UsageQuestion(month=month).checked_month()
    assert wrong.value.param == "month"


def test_the_month_is_this_one_by_default() -> None:
    assert UsageQuestion().checked_month() == MONTH
