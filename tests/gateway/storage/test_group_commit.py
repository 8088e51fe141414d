"""Many writes, one commit: nothing is lost, nothing is doubled, and nobody hears of a success that did not happen."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import DatabaseUnavailable, InvalidRequest, Overloaded, Unavailable
from gateway.storage.database import Database
from gateway.storage.group_commit import GroupCommit
from gateway.storage.migrate import migrate
from gateway.storage.tables import Counter, Project


def insert(name: str) -> Callable[[AsyncSession], Awaitable[str]]:
    async def operation(session: AsyncSession) -> str:
        session.add(Project(id=f"proj_{name}", name=name, created_at=1.0))
        await session.flush()
        return name

    return operation


async def refuse(session: AsyncSession) -> None:
    await insert("refused")(session)
    raise InvalidRequest("refused after writing")


async def names(database: Database) -> list[str]:
    async with database.read() as session:
        return list(await session.scalars(select(Project.name).order_by(Project.name)))


def count_commits(database: Database) -> list[object]:
    commits: list[object] = []
    event.listen(database.engine("durable").sync_engine, "commit", commits.append)
    return commits


async def test_writes_that_wait_together_share_one_commit(database: Database) -> None:
    commits, group = count_commits(database), GroupCommit(database, "durable")
    results = await asyncio.gather(*(group.submit(insert(f"p{i:02}")) for i in range(50)))
    assert results == [f"p{i:02}" for i in range(50)]
    assert await names(database) == results
    assert len(commits) == 1
    await group.close()


async def test_one_failing_write_takes_back_only_itself(database: Database) -> None:
    group = GroupCommit(database, "durable")
    outcomes = await asyncio.gather(
        group.submit(insert("a")),
        group.submit(refuse),
        group.submit(insert("a")),  # breaks a unique constraint
        group.submit(insert("b")),
        return_exceptions=True,
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["str", "InvalidRequest", "IntegrityError", "str"]
    assert await names(database) == ["a", "b"]
    await group.close()


async def test_success_is_told_after_the_commit_and_not_before(database: Database) -> None:
    group = GroupCommit(database, "durable")
    assert await group.submit(insert("a")) == "a"
    assert await names(database) == ["a"]
    await group.close()


async def test_a_failed_commit_fails_every_write_in_it(database: Database) -> None:
    def break_off(_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    group, engine = GroupCommit(database, "durable"), database.engine("durable").sync_engine
    event.listen(engine, "commit", break_off)
    outcomes = await asyncio.gather(*(group.submit(insert(n)) for n in "abc"), return_exceptions=True)
    event.remove(engine, "commit", break_off)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 3
    assert await names(database) == []
    assert await group.submit(insert("later")) == "later"
    await group.close()


async def test_a_full_disk_is_an_error_for_the_whole_group(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    await migrate(database)
    event.listen(
        database.engine("durable").sync_engine, "begin", lambda c: c.exec_driver_sql("PRAGMA max_page_count=1")
    )

    async def fill(session: AsyncSession) -> None:
        session.add(Project(id="proj_x", name="x" * 500_000, created_at=1.0))
        await session.flush()

    group = GroupCommit(database, "durable")
    outcomes = await asyncio.gather(group.submit(insert("a")), group.submit(fill), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
    assert await names(database) == []
    await group.close()
    await database.close()


async def test_a_database_locked_by_somebody_else_is_an_error(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.database.SQLITE_BUSY_SECONDS", 0.1)
    database = Database(sqlite_url)
    await migrate(database)
    stranger = sqlite3.connect(tmp_path / "alignway.db", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    group = GroupCommit(database, "durable")
    with pytest.raises(DatabaseUnavailable, match="locked"):
        await group.submit(insert("a"))
    stranger.rollback()
    stranger.close()
    assert await group.submit(insert("b")) == "b"
    await group.close()
    await database.close()


async def test_a_connection_cut_by_the_server_is_an_error_and_the_next_write_works(postgres_url: str) -> None:
    database = Database(postgres_url)
    await migrate(database)

    async def cut(session: AsyncSession) -> None:
        await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    group = GroupCommit(database, "durable")
    outcomes = await asyncio.gather(group.submit(insert("a")), group.submit(cut), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
    assert await group.submit(insert("b")) == "b"
    assert await names(database) == ["b"]
    await group.close()
    await database.close()


async def test_a_group_that_lost_a_deadlock_is_run_again(postgres_url: str) -> None:
    database = Database(postgres_url)
    await migrate(database)
    async with database.write() as session:
        session.add_all([Counter(name=name, value=0) for name in ("left", "right")])
    met = asyncio.Barrier(2)

    def add_to_both(first: str, second: str) -> Callable[[AsyncSession], Awaitable[None]]:
        async def operation(session: AsyncSession) -> None:
            await session.execute(text("UPDATE counter SET value = value + 1 WHERE name = :n"), {"n": first})
            with suppress(TimeoutError):  # the second run meets nobody
                await asyncio.wait_for(met.wait(), 0.5)
            await session.execute(text("UPDATE counter SET value = value + 1 WHERE name = :n"), {"n": second})

        return operation

    one, other = GroupCommit(database, "durable"), GroupCommit(database, "durable")
    await asyncio.gather(
        one.submit(add_to_both("left", "right")),
        other.submit(add_to_both("right", "left")),
    )
    async with database.read() as session:
        assert list(await session.scalars(select(Counter.value))) == [2, 2]
    await one.close()
    await other.close()
    await database.close()


async def test_what_users_wrote_stays_out_of_the_error(postgres_url: str) -> None:
    database = Database(postgres_url)
    await migrate(database)

    async def disk_full(session: AsyncSession) -> None:
        statement = "DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$ /* secret words */"
        await session.execute(text(statement))

    group = GroupCommit(database, "durable")
    with pytest.raises(DatabaseUnavailable, match="no space left") as caught:
        await group.submit(disk_full)
    assert "secret" not in caught.value.message
    await group.close()
    await database.close()


async def test_a_full_queue_refuses(database: Database) -> None:
    group = GroupCommit(database, "durable", max_waiting=3)
    outcomes = await asyncio.gather(*(group.submit(insert(n)) for n in "abcde"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str, str, str, Overloaded, Overloaded]
    assert await names(database) == ["a", "b", "c"]
    await group.close()


async def test_close_commits_what_waits_and_refuses_what_comes_after(database: Database) -> None:
    group = GroupCommit(database, "durable", max_group=2)
    writes = [asyncio.create_task(group.submit(insert(n))) for n in "abcde"]
    await asyncio.sleep(0)
    await group.close()
    assert await asyncio.gather(*writes) == list("abcde")
    with pytest.raises(Unavailable):
        await group.submit(insert("f"))
    assert await names(database) == list("abcde")


async def test_a_caller_that_stops_waiting_can_let_its_write_go_on(database: Database) -> None:
    group, started, go_on = GroupCommit(database, "relaxed"), asyncio.Event(), asyncio.Event()

    async def slow(session: AsyncSession) -> None:
        started.set()
        await go_on.wait()
        await insert("slow")(session)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(group.submit(slow)), 0.05)
    go_on.set()
    await group.close()
    assert await names(database) == ["slow"]


async def test_a_caller_that_is_cancelled_before_its_turn_takes_its_write_back(database: Database) -> None:
    group, go_on = GroupCommit(database, "durable"), asyncio.Event()

    async def slow(session: AsyncSession) -> None:
        await go_on.wait()

    first = asyncio.create_task(group.submit(slow))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(group.submit(insert("taken back")))
    await asyncio.sleep(0)
    second.cancel()
    go_on.set()
    await first
    await group.close()
    assert await names(database) == []


@given(st.lists(st.sampled_from(["keep", "refuse", "cancel"]), max_size=30), st.integers(1, 7), st.integers(0, 3))
@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_every_told_success_is_stored_once_and_every_failure_never(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str], max_group: int, pauses: int
) -> None:
    async def play() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('group') / 'alignway.db'}")
        await migrate(database)
        group = GroupCommit(database, "durable", max_group=max_group)
        writes = []
        for index, fate in enumerate(fates):
            writes.append(asyncio.create_task(group.submit(refuse if fate == "refuse" else insert(f"{index:03}"))))
            await asyncio.sleep(0)
            if fate == "cancel":
                writes[-1].cancel()
            if pauses and index % 5 == 0:
                await asyncio.sleep(0.001 * pauses)
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        await group.close()
        told = [outcome for outcome in outcomes if isinstance(outcome, str)]
        stored = await names(database)
        cancelled = {f"{i:03}" for i, fate in enumerate(fates) if fate == "cancel"}
        assert [name for name in stored if name not in cancelled] == told
        assert told == [f"{i:03}" for i, fate in enumerate(fates) if fate == "keep"]
        await database.close()

    asyncio.run(play())


async def insert_all(session: AsyncSession, wanted: Sequence[str]) -> list[str | Exception]:
    """One statement for all; a name that begins with `bad` is refused for itself, `worse` breaks the whole batch."""
    good = [name for name in wanted if not name.startswith("bad")]
    session.add_all([Project(id=f"proj_{name}", name=name, created_at=1.0) for name in good])
    await session.flush()
    if "worse" in wanted:
        raise InvalidRequest("broken after writing")
    return [name if name in good else InvalidRequest("refused") for name in wanted]


async def test_writes_of_one_kind_are_made_together(database: Database) -> None:
    group = GroupCommit(database, "durable")
    outcomes = await asyncio.gather(
        *(group.submit_to(insert_all, name) for name in ("a", "bad", "b")), group.submit(insert("c")),
        return_exceptions=True,
    )  # fmt: skip
    assert outcomes[0::2] == ["a", "b"]
    assert isinstance(outcomes[1], InvalidRequest)
    assert outcomes[3] == "c"
    assert await names(database) == ["a", "b", "c"]
    await group.close()


async def test_a_batch_that_fails_is_made_one_by_one(database: Database) -> None:
    group = GroupCommit(database, "durable")
    outcomes = await asyncio.gather(
        *(group.submit_to(insert_all, name) for name in ("a", "worse", "b")), group.submit(insert("c")),
        return_exceptions=True,
    )  # fmt: skip
    assert [outcomes[0], outcomes[2], outcomes[3]] == ["a", "b", "c"]
    assert isinstance(outcomes[1], InvalidRequest)
    assert await names(database) == ["a", "b", "c"]
    await group.close()
