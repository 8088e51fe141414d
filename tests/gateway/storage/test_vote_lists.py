"""A page of votes reads the votes that stand on it, and not all others to find them."""

from typing import Any, Literal

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.database import Database
from gateway.storage.feedback import Wanted, list_feedback
from gateway.storage.feedback_tables import Feedback
from gateway.storage.tables import Project

VOTES = 3000


def vote(number: int, status: str = "active") -> dict[str, Any]:
    at = float(number)
    return {
        "id": f"fb_{number:06}", "project_id": "proj_1", "alias": "assistant", "natural_key": str(number),
        "type": "rating", "status": status, "revision": 1, "rater_hash": "r_1", "rater_kind": "end_user",
        "rater_trusted": False, "body": {}, "target": {}, "created_at": at, "updated_at": at,
    }  # fmt: skip


@pytest.fixture
async def many(database: Database) -> Database:
    """The fifth and the sixth oldest of many votes are held, and nobody has taken one back."""
    async with database.write() as session:
        session.add(Project(id="proj_1", name="one", created_at=1.0))
        await session.flush()
        rows = [vote(number, "held" if number in (4, 5) else "active") for number in range(VOTES)]
        await session.execute(insert(Feedback), rows)
        await session.execute(text("ANALYZE"))
    return database


async def page(
    session: AsyncSession, wanted: Wanted, order: Literal["asc", "desc"] = "desc", after: Feedback | None = None
) -> list[str]:
    found = await list_feedback(session, "proj_1", limit=100, after=after, order=order, wanted=wanted)
    return [one.id for one in found]


async def plan_of(database: Database, wanted: Wanted, after: Feedback | None) -> str:
    """How the database would look for a page."""
    asked: list[tuple[str, Any]] = []
    engine = database.engine("relaxed").sync_engine

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    async with database.read() as session:
        await page(session, wanted, after=after)
        event.remove(engine, "before_cursor_execute", note)
        explain = "EXPLAIN QUERY PLAN " if database.dialect == "sqlite" else "EXPLAIN "
        plan = await (await session.connection()).exec_driver_sql(explain + asked[-1][0], asked[-1][1])
        return str(plan.all())


@pytest.mark.parametrize("behind_another", [False, True])
@pytest.mark.parametrize("status", ["held", "retracted", "superseded"])
async def test_a_list_of_votes_that_do_not_stand_reads_an_index_of_nothing_else(
    many: Database, status: str, behind_another: bool
) -> None:
    async with many.read() as session:
        after = await session.get(Feedback, "fb_002000") if behind_another else None
    plan = await plan_of(many, Wanted(status=status), after)
    assert "ix_feedback_not_active" in plan
    assert all(slow not in plan for slow in ("SCAN feedback", "Seq Scan", "TEMP B-TREE")), plan


async def test_lists_by_status_hold_the_votes_of_that_status_by_age(many: Database) -> None:
    async with many.read() as session:
        assert await page(session, Wanted(status="held")) == ["fb_000005", "fb_000004"]
        assert await page(session, Wanted(status="held"), "asc") == ["fb_000004", "fb_000005"]
        assert await page(session, Wanted(status="retracted")) == []
        assert await page(session, Wanted(status="active"), "asc") == [
            f"fb_{number:06}" for number in range(102) if number not in (4, 5)
        ]
        newest = await session.get_one(Feedback, "fb_000005")
        assert await page(session, Wanted(status="held"), after=newest) == ["fb_000004"]
