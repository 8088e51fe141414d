"""What a group of votes looks up is found by index, and what it stores is stored together or not at all."""

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from gateway.storage.database import Database
from gateway.storage.feedback_tables import Feedback, FeedbackRevision
from gateway.storage.first_words import (
    ANSWERED,
    EARLIER,
    STANDINGS,
    NewRows,
    add_first_words,
    answered_by_id,
    earlier_words,
    standings_of,
)
from gateway.storage.ratings import lock_prompts
from gateway.storage.tables import Project


def vote(name: str, natural_key: str) -> dict[str, Any]:
    return {
        "id": f"fb_{name}", "project_id": "proj_1", "alias": "assistant", "natural_key": natural_key,
        "type": "rating", "status": "active", "revision": 1, "rater_hash": "r_1", "rater_kind": "end_user",
        "rater_trusted": False, "key_id": None, "prompt_hash": "ph_1", "leaning": "up", "body": '{"a": 1}',
        "target": "{}", "created_at": 1.5, "updated_at": 1.5,
    }  # fmt: skip


async def add_project(database: Database) -> None:
    async with database.write() as session:
        session.add(Project(id="proj_1", name="one", created_at=1.0))


async def test_votes_and_their_first_revisions_are_stored_together(database: Database) -> None:
    await add_project(database)
    link = {"completion_id": "chatcmpl-1", "feedback_id": "fb_a", "end_user_hash": None}
    async with database.write() as session:
        await add_first_words(session, NewRows([vote("b", "2"), vote("a", "1")], [link], []))
    async with database.read() as session:
        stored = {one.id: one for one in await session.scalars(select(Feedback))}
        revisions = (await session.scalars(select(FeedbackRevision).order_by(FeedbackRevision.feedback_id))).all()
        spoken = await earlier_words(session, [("proj_1", "ph_1", "r_1"), ("proj_1", "ph_2", "r_1")])
    assert [(name, one.body, one.rater_trusted, one.created_at) for name, one in sorted(stored.items())] == [
        ("fb_a", {"a": 1}, False, 1.5),
        ("fb_b", {"a": 1}, False, 1.5),
    ]
    assert [(one.feedback_id, one.revision, one.body) for one in revisions] == [
        ("fb_a", 1, {"a": 1}),
        ("fb_b", 1, {"a": 1}),
    ]
    assert spoken == {("proj_1", "ph_1", "r_1")}


async def test_a_natural_key_that_is_there_already_refuses_the_whole_group(database: Database) -> None:
    await add_project(database)
    async with database.write() as session:
        await add_first_words(session, NewRows([vote("a", "1")], [], []))
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            await add_first_words(session, NewRows([vote("b", "2"), vote("c", "1")], [], []))
    async with database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Feedback)) == 1


async def test_a_group_finds_what_it_needs_by_index(database: Database) -> None:
    if database.dialect != "sqlite":
        pytest.skip("PostgreSQL's plans are the next test's")
    indexes = {
        ANSWERED: "sqlite_autoindex_completion_1",
        EARLIER: "ix_feedback_project_id_prompt_hash_rater_hash",
        STANDINGS: "sqlite_autoindex_rater_1",
    }
    async with database.read() as session:
        connection = await session.connection()
        for spoken, index in indexes.items():
            lists = ("[]",) * spoken.sqlite.count("?")
            plan = (await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + spoken.sqlite, lists)).all()
            assert index in str(plan), plan


async def test_no_plan_that_was_made_while_tables_were_small_is_kept_for_votes(postgres_url: str) -> None:
    """PostgreSQL keeps a plan from the sixth time on; of an empty table it would be one that reads all of it."""
    database = Database(postgres_url)
    async with database.write() as session:
        for _ in range(8):
            await answered_by_id(session, {"chatcmpl-1"})
            await lock_prompts(session, ["proj_1:ph_1:r_1"])
            await earlier_words(session, [("proj_1", "ph_1", "r_1")])
            standings = await standings_of(session, {("proj_1", "r_1")}, [])
            assert not standings.blocked | standings.trusted | standings.forbidding
        connection = await session.connection()
        kept = "SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1"
        assert (await connection.exec_driver_sql(kept, (EARLIER.postgresql,))).scalar_one() == 0
        plan = (await connection.exec_driver_sql("EXPLAIN " + ANSWERED.postgresql, (["x"],))).all()
        assert "pk_completion" in str(plan)
        assert (await connection.exec_driver_sql("SHOW plan_cache_mode")).scalar_one() == "auto"
    await database.close()
