"""Pairs and the side of their prompts, as rows."""

import asyncio
from datetime import UTC, datetime

from gateway.contracts.ids import PAIR, mint
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.storage import pairs
from gateway.storage.database import Database
from gateway.storage.feedback import insert_feedback


def pair(prompt: str, feedback_id: str = "fb_1") -> FeedbackPair:
    def side(text: str) -> Side:
        return Side(message=Message(role="assistant", content=text), origin="import")

    return FeedbackPair(
        id=mint(PAIR),
        project_id="proj_1",
        prompt=(Message(role="user", content=prompt),),
        prompt_hash=f"ph_{prompt}",
        chosen=side("a"),
        rejected=side("b"),
        weight=1.0,
        rater=Rater(id_hash="r_1", kind="annotator"),
        feedback_ids=(feedback_id,),
        judged_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


async def store(database: Database, feedback_id: str, *prompts: str, state: str = "eligible") -> None:
    async with database.write() as session:
        await insert_feedback(
            session,
            {
                "id": feedback_id,
                "project_id": "proj_1",
                "alias": "assistant",
                "natural_key": feedback_id,
                "type": "pair",
                "status": "active",
                "revision": 1,
                "rater_hash": "r_1",
                "rater_kind": "annotator",
                "body": {},
                "target": {},
                "created_at": 1.0,
                "updated_at": 1.0,
            },
        )
        for prompt in prompts:
            await pairs.add_pair(session, pair(prompt, feedback_id), "assistant", state, None)


async def settle(database: Database, prompt_hash: str, side: str) -> str:
    async with database.write() as session:
        return await pairs.settle_side(session, "assistant", prompt_hash, side)


async def test_the_side_of_a_prompt_is_settled_once_and_never_changes(database: Database) -> None:
    assert await settle(database, "ph_1", "holdout") == "holdout"
    assert await settle(database, "ph_1", "train") == "holdout"
    async with database.read() as session:
        assert await pairs.side_of_prompt(session, "assistant", "ph_1") == "holdout"
        assert await pairs.side_of_prompt(session, "other", "ph_1") is None


async def test_all_who_settle_a_side_at_once_are_told_the_same(database: Database) -> None:
    sides = ["train", "holdout"] * 10
    assert len(set(await asyncio.gather(*(settle(database, "ph_1", side) for side in sides)))) == 1


async def test_held_out_pairs_are_counted_no_further_than_asked(database: Database) -> None:
    await store(database, "fb_1", "a", "b", "c", "d")
    await store(database, "fb_2", "a", "e", state="excluded")
    for prompt in "abce":
        await settle(database, f"ph_{prompt}", "holdout")
    await settle(database, "ph_d", "train")
    async with database.read() as session:
        assert await pairs.count_held_out(session, "assistant", at_most=100) == 3
        assert await pairs.count_held_out(session, "assistant", at_most=2) == 2
        assert await pairs.count_held_out(session, "assistant", at_most=0) == 0
        held_out = await pairs.eligible_pairs(session, "assistant", "holdout")
        assert sorted(row.prompt_hash for row in held_out) == ["ph_a", "ph_b", "ph_c"]
        assert len(await pairs.eligible_pairs(session, "assistant")) == 4


async def test_excluded_pairs_are_kept_with_their_reason(database: Database) -> None:
    await store(database, "fb_1", "a", "b")
    async with database.write() as session:
        await pairs.exclude_pairs(session, "fb_1", "superseded", but_not="superseded")
    await store(database, "fb_2", "c")
    async with database.write() as session:
        await pairs.exclude_pairs(session, "fb_1", "retracted", but_not="superseded")
        await pairs.exclude_pairs(session, "fb_2", "retracted", but_not="superseded")
    async with database.read() as session:
        found = await pairs.pairs_of_feedback(session, ["fb_1", "fb_2", "fb_3"], but_not="nothing")
    reasons = {feedback_id: [(row.state, row.reason) for row in rows] for feedback_id, rows in found.items()}
    assert reasons == {
        "fb_1": [("excluded", "superseded")] * 2,
        "fb_2": [("excluded", "retracted")],
        "fb_3": [],
    }
