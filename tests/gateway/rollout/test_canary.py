"""Canaries that end by themselves, over rows on each kind of database: the test writes the answers that clients got."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.contracts import ids
from gateway.errors import Conflict
from gateway.storage.audit import list_audit
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from gateway.storage.leases import LeaseLost
from gateway.storage.privacy_tables import CompletionVote
from gateway.storage.rollouts import list_rollouts, steps_of
from gateway.storage.tables import Alias, Lease, ReleaseRow, Replica, Rollout, RolloutStep
from tests.gateway.rollout.served import ALIAS, REPLICA, Served

QUICK = {"dwell_seconds": 0, "dwell_requests": 60, "look_seconds": 1e-6}
"""A step ends as soon as sixty requests were answered."""
GOOD = [{"index": 0, "message": {"role": "assistant", "content": "Four."}, "finish_reason": "stop"}]


@pytest.fixture
async def tried(database: Database) -> Served:
    """One alias over one replica, whose canaries are quick."""
    served = Served(database, QUICK)
    await served.prepare()
    return served


async def begun(served: Served, **fields: Any) -> Rollout:
    """A canary of `rel_a` that gets its first share of traffic."""
    rollout = await served.promote("rel_a", strategy="canary", **fields)
    while (await found(served, Alias, ALIAS)).canary_release_id is None:
        await served.step()
    return rollout


async def found(served: Served, table: type[Any], key: str) -> Any:
    async with served.database.read() as session:
        return await session.get_one(table, key)


async def answer(
    served: Served,
    release: str,
    count: int,
    *,
    status: str = "finished",
    choices: Any = GOOD,
    at: float | None = None,
    first_chunk_seconds: float = 0.1,
) -> list[str]:
    """Answers that were given just now; their ids."""
    now = time.time() if at is None else at
    named = [ids.mint(ids.COMPLETION) for _ in range(count)]
    async with served.database.write() as session:
        session.add_all(
            Completion(
                id=name, project_id="proj_1", key_id="key_1", alias=ALIAS, release_id=release, status=status,
                messages=[], parameters={}, choices=choices, usage={}, end_user_hash=None, created_at=now,
                first_chunk_seconds=first_chunk_seconds, total_seconds=0.2, call_metadata={},
            )
            for name in named
        )  # fmt: skip
    return named


async def steps(served: Served, rollout: Rollout) -> Sequence[RolloutStep]:
    async with served.database.read() as session:
        return await steps_of(session, rollout.id)


async def test_a_good_candidate_walks_from_5_to_25_to_100_percent_without_a_person(tried: Served) -> None:
    rollout = await begun(tried)
    shares = []
    for _ in range(2):
        shares.append((await found(tried, Alias, ALIAS)).canary_share)
        await answer(tried, "rel_a", 59)
        await answer(tried, "rel_base", 100)
        await tried.step()
        assert (await found(tried, Alias, ALIAS)).canary_share == shares[-1]  # one request is missing
        await answer(tried, "rel_a", 1)
        await tried.step()
    await tried.settle()
    assert shares == [0.05, 0.25]
    assert await tried.serving() == "rel_a"
    told = [(step.from_state, step.to_state, step.actor) for step in await steps(tried, rollout)]
    assert told == [
        ("waiting", "canary", "reconciler"),
        ("canary", "canary", "canary"),
        ("canary", "promoting", "canary"),
        ("promoting", "promoted", "reconciler"),
    ]
    raised = (await steps(tried, rollout))[1]
    assert raised.reason.startswith("5% to 25%: nothing bad at 5%")
    assert raised.evidence is not None
    assert (raised.evidence["share"], raised.evidence["candidate"]["requests"]) == (0.05, 60)
    assert (await found(tried, Alias, ALIAS)).auto_training_paused_reason is None


async def test_a_candidate_that_fails_is_rolled_back_without_a_person_and_may_not_serve_again(tried: Served) -> None:
    rollout = await begun(tried)
    await answer(tried, "rel_base", 95)
    await answer(tried, "rel_base", 5, status="failed")
    await answer(tried, "rel_a", 44)
    await answer(tried, "rel_a", 6, status="failed")
    await tried.settle()
    assert await tried.state(rollout) == "stopped"
    alias = await found(tried, Alias, ALIAS)
    assert (alias.serving_release_id, alias.canary_release_id, alias.canary_share) == ("rel_base", None, 0.0)
    reason = "errors: 6 of 50 requests failed (12.0%); with the incumbent 5 of 100 (5.0%)"
    last = (await steps(tried, rollout))[-1]
    assert (last.to_state, last.actor, last.reason) == ("stopped", "canary", reason)
    assert last.evidence is not None
    assert last.evidence["signals"][0]["bad"]
    assert alias.auto_training_paused_reason == f"rollout {rollout.id} was rolled back: {reason}"
    assert (await found(tried, ReleaseRow, "rel_a")).state == "rejected"
    async with tried.database.read() as session:
        assert (await list_audit(session, 1))[0].row.actor == "canary"
    with pytest.raises(Conflict) as refused:
        await tried.promote("rel_a")
    assert refused.value.code == "release_not_published"


@pytest.mark.parametrize("flaw", ["empty", "looping", "truncated"])
async def test_a_promoted_release_whose_answers_turn_bad_is_rolled_back(tried: Served, flaw: str) -> None:
    await answer(tried, "rel_base", 50, at=time.time() - 1)
    rollout = await tried.promote("rel_a")
    await tried.settle()
    assert await tried.serving() == "rel_a"
    texts = {"empty": " ", "looping": "so it is " * 20, "truncated": "It is"}
    reason = "length" if flaw == "truncated" else "stop"
    message = {"role": "assistant", "content": texts[flaw]}
    await answer(tried, "rel_a", 45)
    await answer(tried, "rel_a", 5, choices=[{"index": 0, "message": message, "finish_reason": reason}])
    await tried.settle()
    await tried.settle()
    assert await tried.serving() == "rel_base"
    async with tried.database.read() as session:
        back, before = await list_rollouts(session)
    assert (before.id, before.state, back.kind, back.state) == (rollout.id, "promoted", "rollback", "promoted")
    assert (back.actor, back.candidate_id) == ("canary", "rel_base")
    assert back.reason == f"{flaw}: 5 of 50 answers are {flaw} (10.0%); of the incumbent 0 of 50 (0.0%)"
    assert back.evidence is not None
    assert back.evidence == before.evidence
    assert (await found(tried, ReleaseRow, "rel_a")).state == "rejected"


async def test_a_promotion_is_watched_for_a_day_and_no_longer(tried: Served) -> None:
    rollout = await tried.promote("rel_a")
    await tried.settle()
    async with tried.database.write() as session:
        (await session.get_one(Rollout, rollout.id)).updated_at = time.time() - 86401
    await answer(tried, "rel_a", 50, status="failed")
    for _ in range(3):
        await tried.step()
    assert await tried.serving() == "rel_a"
    async with tried.database.write() as session:
        (await session.get_one(Rollout, rollout.id)).updated_at = time.time() - 86300
    for _ in range(10):
        await tried.step()
    assert await tried.serving() == "rel_base"


async def test_an_engine_that_dies_twice_of_the_candidate_ends_the_canary(tried: Served) -> None:
    async with tried.database.write() as session:
        (await session.get_one(Replica, REPLICA)).restarts = 7  # long before
    rollout = await begun(tried)
    for restarts, state in ((8, "canary"), (9, "stopped")):
        async with tried.database.write() as session:
            (await session.get_one(Replica, REPLICA)).restarts = restarts
        await tried.step()
        await tried.step()
        assert await tried.state(rollout) == state


async def test_first_tokens_that_come_late_for_five_minutes_end_the_canary_and_a_minute_does_not(
    tried: Served,
) -> None:
    rollout = await begun(tried)
    now = time.time()
    for at in (now - 200, now - 10):
        await answer(tried, "rel_base", 20, at=at)
        await answer(tried, "rel_a", 20, at=at, first_chunk_seconds=0.16)
    await tried.step()
    assert await tried.state(rollout) == "canary"  # it began this moment
    async with tried.database.write() as session:
        (await session.get_one(Rollout, rollout.id)).step_began_at = now - 310
    await tried.settle()
    assert await tried.state(rollout) == "stopped"
    last = (await steps(tried, rollout))[-1]
    assert last.reason == "ttft: 95 % of first tokens within 0.16 s, with the incumbent 0.10 s"


async def compare(served: Served, votes: Sequence[tuple[str, str]]) -> None:
    """Votes between the candidate and the incumbent: rater and chosen release, each on a prompt of its own."""
    now = time.time()
    async with served.database.write() as session:
        for number, (rater, chosen) in enumerate(votes):
            rejected = "rel_base" if chosen == "rel_a" else "rel_a"
            feedback = ids.mint(ids.FEEDBACK)
            session.add(rated(feedback, "preference", rater, None, now))
            await session.flush()
            session.add(
                PairRow(
                    id=ids.mint(ids.PAIR), feedback_id=feedback, project_id="proj_1", alias=ALIAS,
                    prompt_hash=f"p{number}", state="eligible", reason=None, body={}, created_at=now + number / 1000,
                    rater_hash=rater, chosen_release=chosen, rejected_release=rejected,
                )
            )  # fmt: skip


def rated(name: str, type_: str, rater: str, leaning: str | None, at: float) -> Feedback:
    return Feedback(
        id=name, project_id="proj_1", alias=ALIAS, natural_key=name, type=type_, status="active", revision=1,
        rater_hash=rater, rater_kind="end_user", key_id="key_1", prompt_hash=None, leaning=leaning, body={}, target={},
        created_at=at, updated_at=at,
    )  # fmt: skip


async def test_eight_votes_in_a_row_against_the_candidate_reject_it(tried: Served) -> None:
    # n votes that all agree: e = 2^n / (n + 1); 128 / 8 = 16 is not enough, 256 / 9 = 28.4 is.
    rollout = await begun(tried)
    await compare(tried, [(f"rater{number}", "rel_base") for number in range(7)])
    await tried.step()
    assert await tried.state(rollout) == "canary"
    await compare(tried, [("another", "rel_base")])
    await tried.settle()
    last = (await steps(tried, rollout))[-1]
    assert last.reason == "worse by votes: 0 of 8 votes prefer the candidate (e-value 28.4)"
    assert (await found(tried, ReleaseRow, "rel_a")).state == "rejected"


async def test_votes_that_find_no_difference_keep_the_incumbent_and_reject_nothing(database: Database) -> None:
    served = Served(database, QUICK | {"max_votes": 10})
    await served.prepare()
    rollout = await begun(served)
    await compare(served, [(f"rater{n}", ("rel_a", "rel_base")[n % 2]) for n in range(10)])
    await served.settle()
    last = (await steps(served, rollout))[-1]
    assert (await served.state(rollout), await served.serving()) == ("stopped", "rel_base")
    assert last.reason.startswith("no difference found: 5 of 10 votes prefer the candidate")
    assert (await found(served, ReleaseRow, "rel_a")).state == "published"
    assert (await found(served, Alias, ALIAS)).auto_training_paused_reason is None


async def thumb(served: Served, release: str, raters: Sequence[str], leaning: str) -> None:
    """One thumb of each rater on an answer of the release."""
    named = await answer(served, release, len(raters))
    now = time.time()
    async with served.database.write() as session:
        for rater, completion in zip(raters, named, strict=True):
            feedback = ids.mint(ids.FEEDBACK)
            session.add(rated(feedback, "rating", rater, leaning, now))
            await session.flush()
            session.add(CompletionVote(completion_id=completion, feedback_id=feedback, end_user_hash=None))


async def test_eight_raters_with_a_thumb_down_end_it_and_one_with_a_hundred_does_not(tried: Served) -> None:
    rollout = await begun(tried)
    await thumb(tried, "rel_base", [f"old{number}" for number in range(8)], "up")
    await thumb(tried, "rel_a", ["angry"] * 40, "down")
    await tried.step()
    assert await tried.state(rollout) == "canary"
    await thumb(tried, "rel_a", [f"new{number}" for number in range(7)], "down")
    await tried.settle()
    assert await tried.state(rollout) == "stopped"
    assert (await steps(tried, rollout))[-1].reason.startswith("down_votes: of 8 pairs of raters that differ")


async def test_a_reconciler_that_was_deposed_rolls_nothing_back(tried: Served) -> None:
    rollout = await tried.promote("rel_a")
    await tried.settle()
    await answer(tried, "rel_a", 50, status="failed")
    async with tried.database.write() as session:
        lease = await session.get_one(Lease, "reconciler")
        lease.holder, lease.epoch = "gw_2", lease.epoch + 1
    with pytest.raises(LeaseLost):
        await tried.reconciler.step()
    assert (await found(tried, Rollout, rollout.id)).evidence is None
    assert await tried.serving() == "rel_a"


async def test_a_candidate_that_cannot_be_measured_keeps_no_other_work_waiting(
    tried: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: Any) -> None:
        raise ValueError("a broken record")

    await begun(tried)
    monkeypatch.setattr("gateway.rollout.watch.measure", breaks)
    await tried.replica("assistant-2", desired_adapters=["rel_gone"])
    await tried.step()
    assert (await tried.row("assistant-2")).desired_adapters == ["rel_a"]
