"""What the triggers count, and that a planned run is neither missed nor doubled."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.rollout.triggers import PairCounts, count_pairs, start_due_runs
from gateway.rollout.usable import UsableCounts
from gateway.settings import AlignerSettings, Settings
from gateway.storage import pairs
from gateway.storage.database import Database
from gateway.storage.datasets import settle_prompts
from gateway.storage.feedback import insert_feedback
from gateway.storage.feedback_tables import PairRow, Run
from gateway.storage.runs import list_runs
from gateway.storage.tables import Alias, Project
from tests.gateway.rollout.served import ALIAS, Served


def pair(project: str, prompt: str) -> FeedbackPair:
    side = Side(message=Message(role="assistant", content="a"), origin="import")
    return FeedbackPair(
        id=f"pair_{project}_{prompt}",
        project_id=project,
        prompt=(Message(role="user", content=prompt),),
        prompt_hash=prompt,
        chosen=side,
        rejected=side.model_copy(update={"message": Message(role="assistant", content="b")}),
        weight=1.0,
        rater=Rater(id_hash="r_1", kind="annotator"),
        feedback_ids=(f"fb_{project}",),
        judged_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


async def store(served: Served, project: str, *prompts: str) -> None:
    columns = {"alias": ALIAS, "natural_key": "k", "type": "pair", "status": "active", "revision": 1}
    columns |= {"rater_hash": "r_1", "rater_kind": "annotator", "body": {}, "target": {}}
    async with served.database.write() as session:
        await session.merge(Project(id=project, name=project, created_at=0.0))
        await session.flush()
        feedback = {"id": f"fb_{project}", "project_id": project, "created_at": 1.0, "updated_at": 1.0}
        await insert_feedback(session, columns | feedback)
        for prompt in prompts:
            await pairs.add_pair(session, pair(project, prompt), ALIAS, "eligible", None)


async def test_an_alias_counts_the_pairs_of_its_own_project_only(served: Served) -> None:
    await store(served, "proj_1", "p1", "p2", "h1")
    await store(served, "proj_2", "p1", "p3", "h1", "h2")
    async with served.database.write() as session:
        for prompt in ("p1", "p2", "p3", "h1", "h2"):
            side = {"alias": ALIAS, "prompt_hash": prompt, "side": "holdout" if prompt.startswith("h") else "train"}
            await settle_prompts(session, [side | {"number": 1, "cluster": prompt, "bridges": False, "signature": b""}])
    async with served.database.read() as session:
        assert await count_pairs(session, ALIAS) == PairCounts(train=2, holdout=1, new=3)


async def test_a_run_by_itself_waits_for_pairs_that_a_data_set_would_hold_not_for_votes(served: Served) -> None:
    """Twenty prompts of which eight nearly say the same: these make three pairs at most, so 15 of 20 are used."""
    near = "please tell me in a few words why the sky is blue today and not green at all"
    alike = [f"{near} {number}" for number in range(8)]
    others = [f"a question about number {number}" for number in range(12)]
    await store(served, "proj_1", *alike, *others)
    everything = Settings(aligner=AlignerSettings(auto_min_train_pairs=1, auto_min_holdout_pairs=1))
    eligible = PairCounts(train=20, holdout=20, new=20)

    async def is_enough(train: int) -> bool | None:
        aligner = AlignerSettings(auto_min_train_pairs=train, auto_min_holdout_pairs=1)
        counts = UsableCounts(served.database, everything.model_copy(update={"aligner": aligner}))
        assert counts.is_enough(ALIAS, eligible) is None  # nobody waits for the count
        await counts.settled()
        return counts.is_enough(ALIAS, eligible)

    async with served.database.write() as session:
        numbered = enumerate([*alike, *others])
        rows = [
            {"alias": ALIAS, "prompt_hash": text, "side": "holdout" if text == others[0] else "train", "number": number}
            | {"cluster": near if text in alike else text, "bridges": False, "signature": b""}
            for number, text in numbered
        ]
        await settle_prompts(session, rows)
    assert [await is_enough(train) for train in (14, 15)] == [True, False]


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def nightly(**settings: Any) -> Settings:
    enough = {"auto_min_train_pairs": 1, "auto_min_holdout_pairs": 1, "time_zone": "Europe/Berlin"}
    return Settings(aligner=AlignerSettings.model_validate(enough | {"schedule": "30 2 * * *"} | settings))


async def unfenced(_: Any) -> None:
    return


async def stocked(served: Served, since: float) -> None:
    """A pair to train on and one to measure on; the alias is as old as they are."""
    await store(served, "proj_1", "p1", "h1")
    async with served.database.write() as session:
        for prompt, side in (("p1", "train"), ("h1", "holdout")):
            row = {"alias": ALIAS, "prompt_hash": prompt, "side": side, "number": 1, "cluster": prompt}
            await settle_prompts(session, [row | {"bridges": False, "signature": b""}])
        await session.execute(update(Alias).values(created_at=since))


async def look(
    served: Served, settings: Settings, now: float, *, fresh: bool = True, is_enough: bool | None = True
) -> int:
    """What a gateway does whose clock shows `now`, pairs being new; how many runs there are then, all ended."""
    async with served.database.write() as session:
        if fresh:
            await session.execute(update(PairRow).values(created_at=now))
    await start_due_runs(served.database, settings, now, unfenced, lambda *_: is_enough)
    async with served.database.write() as session:
        await session.execute(update(Run).values(state="succeeded"))
        return len(await list_runs(session))


@on_sqlite
async def test_a_planned_run_is_neither_missed_nor_doubled_by_clocks_restarts_and_summer_time(served: Served) -> None:
    await stocked(served, at("2026-10-01T00:00"))
    told = [
        ("2026-10-24T12:00", 0),  # the first look begins the schedule
        ("2026-10-25T00:29:59", 0),
        ("2026-10-25T00:30", 1),  # 02:30 summer time
        ("2026-10-25T01:30", 1),  # 02:30 again: clocks were set back
        ("2026-10-25T00:29:40", 1),  # another gateway takes over, whose clock is late
        ("2026-10-24T21:00", 1),  # a clock is set back by hours, and passes 02:30 again
        ("2026-10-25T00:31", 1),
        ("2026-10-29T12:00", 2),  # nothing ran for days: one run makes up for four
        ("2026-10-30T01:30", 3),
        ("2027-06-01T12:00", 4),  # a clock shows another year,
        ("2026-10-30T13:00", 4),  # and is set right
        ("2026-10-31T01:29", 4),
        ("2026-10-31T01:30", 5),
        ("2026-10-31T01:30:01", 5),
    ]
    settings = nightly()
    assert [(when, await look(served, settings, at(when))) for when, _ in told] == told


@on_sqlite
async def test_an_interval_goes_on_over_a_clock_that_was_wrong(served: Served) -> None:
    await stocked(served, at("2026-10-01T00:00"))
    told = [
        ("2026-10-01T11:59", 0),
        ("2026-10-01T12:00", 1),
        ("2026-10-01T11:00", 1),  # set back by an hour
        ("2026-10-01T12:01", 1),
        ("2026-10-02T00:00", 2),
        ("2027-06-01T12:00", 3),
        ("2026-10-02T00:01", 3),
        ("2026-10-02T11:59", 3),
        ("2026-10-02T12:00", 4),
    ]
    settings = nightly(schedule=None, every="12h")
    assert [(when, await look(served, settings, at(when))) for when, _ in told] == told


@on_sqlite
async def test_a_planned_run_without_enough_pairs_is_left_out_and_said_so_and_not_made_up_for_by_day(
    served: Served,
) -> None:
    await stocked(served, at("2026-11-01T00:00"))
    assert await look(served, nightly(), at("2026-11-01T00:00")) == 0
    assert await look(served, nightly(auto_min_train_pairs=2), at("2026-11-01T01:30")) == 0
    async with served.database.read() as session:
        alias = await session.get_one(Alias, ALIAS)
    assert alias.schedule_remark == (
        "Sun 2026-11-01 02:30 CET: 1 of 2 pairs to train on (aligner.auto_min_train_pairs)"
    )
    assert await look(served, nightly(), at("2026-11-01T12:00")) == 0
    async with served.database.write() as session:
        (await session.get_one(Alias, ALIAS)).auto_training_paused_reason = "somebody looks into it"
    assert await look(served, nightly(), at("2026-11-02T01:30")) == 0
    async with served.database.write() as session:
        (await session.get_one(Alias, ALIAS)).auto_training_paused_reason = None
    assert await look(served, nightly(), at("2026-11-02T12:00")) == 0
    assert await look(served, nightly(), at("2026-11-03T01:30"), fresh=True) == 1
    async with served.database.read() as session:
        assert (await session.get_one(Alias, ALIAS)).schedule_remark is None


async def test_gateways_that_look_at_once_start_one_run(served: Served) -> None:
    await stocked(served, at("2026-11-01T00:00"))
    await look(served, nightly(), at("2026-11-01T00:00"))
    others = [Database(served.database.url) for _ in range(3)]
    await asyncio.gather(
        *(start_due_runs(one, nightly(), at("2026-11-01T01:30"), unfenced, lambda *_: True) for one in others)
    )
    async with served.database.read() as session:
        assert [run.trigger for run in await list_runs(session)] == ["schedule"]
    for one in others:
        await one.close()


@on_sqlite
async def test_a_planned_run_waits_for_the_count_of_its_data_set_and_is_left_out_where_that_is_too_small(
    served: Served,
) -> None:
    await stocked(served, at("2026-11-01T00:00"))
    assert await look(served, nightly(), at("2026-11-01T12:00")) == 0  # the first look begins the schedule
    first, second = at("2026-11-02T01:30"), at("2026-11-03T01:30")
    assert await look(served, nightly(), first, is_enough=None) == 0  # being counted: still due
    assert await look(served, nightly(), first + 2) == 1
    assert await look(served, nightly(), second, is_enough=False) == 1
    async with served.database.read() as session:
        remark = (await session.get_one(Alias, ALIAS)).schedule_remark
    assert "dataset build --dry-run" in str(remark)
    assert await look(served, nightly(), second + 2) == 1  # left out: the next one is tomorrow's
