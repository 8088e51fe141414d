"""Pairs and the side of their prompts, as rows."""

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import PAIR, mint
from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.storage import datasets, pairs
from gateway.storage.bare import Spoken, fetch
from gateway.storage.database import Database
from gateway.storage.datasets import settle_prompts
from gateway.storage.feedback import insert_feedback
from gateway.storage.feedback_tables import PairRow


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


async def settle(database: Database, prompt: str, side: str, **columns: object) -> None:
    row = {"alias": "assistant", "prompt_hash": f"ph_{prompt}", "side": side, "number": 1, "cluster": prompt}
    async with database.write() as session:
        await settle_prompts(session, [row | {"bridges": False, "signature": b"1"} | columns])


async def test_the_side_of_a_prompt_is_settled_once_and_never_changes(database: Database) -> None:
    await settle(database, "a", "holdout")
    await settle(database, "a", "train")
    async with database.read() as session:
        assert [row.side async for rows in pairs.sides_of(session, "assistant") for row in rows] == ["holdout"]
        assert [row async for row in pairs.sides_of(session, "other")] == []


async def test_of_all_who_settle_a_side_at_once_one_does(database: Database) -> None:
    await asyncio.gather(*(settle(database, "a", side) for side in ["train", "holdout"] * 10))
    async with database.read() as session:
        assert len([row async for rows in pairs.sides_of(session, "assistant") for row in rows]) == 1


async def test_eligible_pairs_are_counted_on_their_sides_without_those_that_bridge_both(database: Database) -> None:
    await store(database, "fb_1", "a", "b", "c", "d")
    await store(database, "fb_2", "a", "e", state="excluded")
    for prompt in "ae":
        await settle(database, prompt, "holdout")
    for prompt in "bd":
        await settle(database, prompt, "train")
    await settle(database, "c", "holdout", bridges=True)
    async with database.read() as session:
        assert await pairs.count_sides(session, "assistant") == {"holdout": 1, "train": 2}


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


async def test_pairs_too_long_for_one_value_are_read_in_parts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["one", 'zwei "und" drei', "四"]
    await store(database, "fb_1", *texts)
    asked = list[int]()

    async def fetch_little(session: AsyncSession, spoken: Spoken, ids: Sequence[str]) -> Iterable[Sequence[Any]]:
        asked.append(len(ids))
        if len(ids) > 1:
            raise DataError("", None, sqlite3.DataError("string or blob too big"))
        return await fetch(session, spoken, ids)

    async with database.read() as session:
        ids = list(await session.scalars(select(PairRow.id).order_by(PairRow.id)))
        whole = await datasets.bodies_of(session, [*ids, "pair_gone"])
        monkeypatch.setattr(datasets, "fetch", fetch_little)
        parts = await datasets.bodies_of(session, ids)
        gone = await datasets.bodies_of(session, ["pair_gone"])
    assert (asked, gone, len(whole), len(parts)) == ([3, 1, 2, 1, 1, 1], [b"{}"], 1, 3)
    read = json.loads(whole[0])
    assert {one: body["prompt"][0]["content"] for one, body in read.items()} == dict(zip(ids, texts, strict=True))
    assert {one: body for part in parts for one, body in json.loads(part).items()} == read


async def test_sqlite_says_of_a_value_that_is_too_long_what_is_waited_for(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    with pytest.raises(DataError, match="too big"):
        async with database.read() as session:
            await fetch(session, Spoken("SELECT zeroblob(2000000000), ?", ""), [])
    await database.close()
