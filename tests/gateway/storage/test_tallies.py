"""The counts that the database keeps are those that counting every row would give, whatever happens to the rows."""

from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.feedback.stats import feedback_stats
from gateway.storage.database import Database
from gateway.storage.feedback import insert_feedback
from gateway.storage.feedback_tables import Feedback, FeedbackRevision, PairRow, PairTally, RaterTally, VoteTally
from gateway.storage.first_words import NewRows, add_first_words

DAY = 86400.0
NOON = 1795780800.0 + DAY / 2
"""Of 28 November 2026, in UTC."""


def vote(number: int, rater: str, **columns: Any) -> dict[str, Any]:
    made = {
        "id": f"fb_{number}", "project_id": "proj_1", "alias": "assistant", "natural_key": str(number),
        "type": "preference", "status": "active", "revision": 1, "rater_hash": rater, "rater_kind": "end_user",
        "rater_trusted": False, "key_id": None, "prompt_hash": None, "leaning": None, "body": {}, "target": {},
        "created_at": NOON, "updated_at": NOON,
    }  # fmt: skip
    return made | columns


def pair(number: int, **columns: Any) -> dict[str, Any]:
    made = {
        "id": f"pair_{number}", "feedback_id": "fb_1", "project_id": "proj_1", "alias": "assistant",
        "prompt_hash": "ph_1", "state": "eligible", "reason": None, "source": None, "body": {}, "created_at": NOON,
    }  # fmt: skip
    return made | columns


async def add(session: AsyncSession, *votes: dict[str, Any]) -> None:
    await add_first_words(session, NewRows([one | {"body": "{}", "target": "{}"} for one in votes], [], []))


async def told(session: AsyncSession, alias: str | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """The statistics without the names of their columns."""
    stats = await feedback_stats(session, alias, NOON - DAY)
    return {name: [tuple(row.values()) for row in rows] for name, rows in stats.items()}


async def test_counts_follow_every_vote_that_comes_changes_or_goes(database: Database) -> None:
    first = vote(1, "ana", created_at=NOON - DAY)
    others = [vote(2, "ana", type="rating"), vote(3, "ben", status="held"), vote(4, "cy", rater_kind="annotator")]
    others[-1] |= {"alias": "other"}
    async with database.write() as session:
        await add(session, first, *others)
    async with database.write() as session:
        await insert_feedback(session, first)  # sent again
        assert await told(session) == {
            "votes": [("preference", "active", 2), ("preference", "held", 1), ("rating", "active", 1)],
            "pairs": [],
            "raters": [("annotator", 1), ("end_user", 1)],
            "sources": [],
            "votes_by_day": [("2026-11-28", 3), ("2026-11-27", 1)],
        }
    async with database.write() as session:
        await session.execute(update(Feedback).where(Feedback.id == "fb_3").values(status="active", revision=2))
        await session.execute(delete(FeedbackRevision))
        await session.execute(delete(Feedback).where(Feedback.id == "fb_2"))
        undone = await session.begin_nested()
        await session.execute(delete(Feedback))
        await undone.rollback()
    async with database.read() as session:
        found, own = await told(session), await told(session, "other")
        assert found["votes"] == [("preference", "active", 3)]
        assert found["raters"] == [("annotator", 1), ("end_user", 2)]
        assert (own["votes"], own["votes_by_day"]) == ([("preference", "active", 1)], [("2026-11-28", 1)])


async def test_pairs_are_counted_by_reason_and_eligible_ones_by_source(database: Database) -> None:
    crm = {"source": "crm", "body": {"licence": "internal"}}
    pairs = [pair(1), pair(2, **crm), pair(3, **crm), pair(4, state="excluded", reason="duplicate")]
    async with database.write() as session:
        await add(session, vote(1, "ana"))
        await session.execute(insert(PairRow), pairs)
        now = await told(session)
        assert now["pairs"] == [("eligible", None, 3), ("excluded", "duplicate", 1)]
        assert now["sources"] == [(None, None, 1), ("crm", "internal", 2)]
        await session.execute(update(PairRow).values(state="excluded", reason="retracted"))
        now = await told(session)
        assert (now["pairs"], now["sources"]) == ([("excluded", "retracted", 4)], [])
        await session.execute(delete(PairRow))
        await session.execute(delete(FeedbackRevision))
        await session.execute(delete(Feedback))
        left = [await session.scalars(select(table.count)) for table in (VoteTally, PairTally, RaterTally)]
        assert [sum(counts) for counts in left] == [0, 0, 0]
