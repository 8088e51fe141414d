"""Completions are committed in groups, told of once, and never hold up an answer for long."""

import asyncio
import time

import pytest
from sqlalchemy import select, text

from gateway.contracts.ids import COMPLETION, mint
from gateway.storage import completion_log
from gateway.storage.completion_log import CompletionLog, CompletionRow
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion
from tests.patience import patient


def row(words: str = "hi", completion_id: str | None = None) -> CompletionRow:
    return CompletionRow(
        id=completion_id or mint(COMPLETION),
        project_id="proj_1",
        key_id="key_1",
        alias="assistant",
        release_id="rel_1",
        status="finished",
        messages=f'[{{"role":"user","content":"{words}"}}]',
        parameters='{"seed":1}',
        choices="[]",
        usage="{}",
        end_user_hash=None,
        created_at=time.time(),
        first_chunk_seconds=None,
        total_seconds=1.0,
        call_metadata="{}",
    )


async def written(log: CompletionLog, one: CompletionRow) -> bool:
    told = asyncio.get_running_loop().create_future()
    log.write(one, told.set_result)
    return bool(await told)


async def test_a_row_is_visible_to_everybody_once_it_is_told(database: Database) -> None:
    log = CompletionLog(database.url)
    rows = [row(f"é {number}") for number in range(600)]
    assert all(await asyncio.gather(*(written(log, one) for one in rows)))
    async with database.read() as session:
        found = {one.id: one for one in await session.scalars(select(Completion))}
    assert {one.id: [{"role": "user", "content": f"é {number}"}] for number, one in enumerate(rows)} == {
        one.id: one.messages for one in found.values()
    }
    assert found[rows[0].id].parameters == {"seed": 1}
    await log.close()


async def test_closing_commits_what_waits(database: Database) -> None:
    log, told = CompletionLog(database.url), []
    for _ in range(50):
        log.write(row(), told.append)
    await log.close()
    await asyncio.sleep(0)
    assert told == [True] * 50
    async with database.read() as session:
        assert len((await session.scalars(select(Completion.id))).all()) == 50


async def test_a_row_that_cannot_be_written_takes_no_other_with_it(database: Database) -> None:
    log = CompletionLog(database.url)
    one = row()
    assert await written(log, one)
    together = [row(), row(completion_id=one.id), row()]
    assert await asyncio.gather(*(written(log, each) for each in together)) == [True, False, True]
    await log.close()


async def test_an_answer_waits_no_longer_than_its_time_for_a_locked_database(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_log, "RECORD_SECONDS", 0.3)
    database, log, one = Database(sqlite_url), CompletionLog(sqlite_url), row()
    async with database.write() as session:
        await session.execute(text("SELECT 1"))  # BEGIN IMMEDIATE holds the only writer's lock
        began = time.monotonic()
        assert not await written(log, one)
        assert 0.25 < time.monotonic() - began < patient(0.3)
    await log.close()
    async with database.read() as session:
        assert await session.get(Completion, one.id) is not None  # late, but not lost
    await database.close()


async def test_too_much_text_waiting_is_not_kept(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_log, "MAX_WAITING_BYTES", 1000)
    log, told = CompletionLog(sqlite_url), []
    log.write(row("x" * 2000), told.append)
    assert told == [False]
    await log.close()


async def test_rows_are_stored_as_they_were_prepared_and_never_as_they_came(database: Database) -> None:
    def prepare(one: CompletionRow) -> CompletionRow:
        if "broken" in one.messages:
            raise ValueError("cannot be prepared")
        return one._replace(messages=one.messages.replace("amy@example.org", "[EMAIL_1]"))

    log = CompletionLog(database.url, prepare)
    rows = [row("amy@example.org"), row("broken amy@example.org"), row("hi")]
    assert await asyncio.gather(*(written(log, one) for one in rows)) == [True, False, True]
    await log.close()
    async with database.read() as session:
        found = {one.id: one.messages[0]["content"] for one in await session.scalars(select(Completion))}
    assert found == {rows[0].id: "[EMAIL_1]", rows[2].id: "hi"}
