"""Rankings and ratings over a real SQLite and a real PostgreSQL: which pairs they make, and when they lose them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.caller import Caller
from gateway.contracts.pair import FeedbackPair
from gateway.errors import InvalidRequest
from gateway.feedback.bodies import parse_body
from gateway.feedback.capture import Captured
from gateway.settings import FeedbackSettings, MetricSettings, PairingSettings
from gateway.storage.feedback_tables import Feedback, PairRow
from gateway.storage.group_commit import GroupCommit
from gateway.storage.ratings import unpaired_ratings

DELEGATE = Caller("key_app", "proj_1", frozenset({"feedback", "feedback:delegate"}))


async def rate(desk: Any, completion: str, value: Any, name: str = "thumbs", **fields: Any) -> Captured:
    body = {"type": "rating", "target": {"completion_id": completion}, "name": name, "value": value}
    return await desk.vote(body | fields, DELEGATE if "rater" in fields else None)


async def pairs(desk: Any, state: str = "eligible") -> Sequence[FeedbackPair]:
    async with desk.database.read() as session:
        found = await session.scalars(select(PairRow).where(PairRow.state == state).order_by(PairRow.id))
        return [FeedbackPair.model_validate(row.body) for row in found]


async def reasons(desk: Any) -> list[str | None]:
    async with desk.database.read() as session:
        return list(await session.scalars(select(PairRow.reason).order_by(PairRow.id)))


async def test_a_ranking_makes_pairs_of_its_ends(desk: Any) -> None:
    best, middle, worst = [await desk.complete(text) for text in ("Best.", "Middle.", "Worst.")]
    refs = [[{"completion_id": best}], [{"completion_id": middle}], [{"completion_id": worst}]]
    ranking = {"type": "ranking", "ranking": refs, "strength": 2}
    captured = await desk.vote(ranking)
    made = await pairs(desk)
    assert [(pair.chosen.message.text, pair.rejected.message.text) for pair in made] == [
        ("Best.", "Worst."),
        ("Best.", "Middle."),
    ]
    assert {(pair.basis, pair.weight) for pair in made} == {("ranking", 0.9)}
    again = await desk.vote(ranking | {"ranking": [refs[0], [*refs[1], *refs[2]]], "strength": 1})
    assert (again.reply["id"], again.reply["revision"], len(again.reply["pairs"])) == (captured.reply["id"], 2, 1)


async def test_the_second_of_a_thumb_up_and_a_thumb_down_makes_a_pair(desk: Any) -> None:
    good, bad = await desk.complete("Good."), await desk.complete("Bad.")
    first = await rate(desk, bad, False)
    assert first.reply["pairs"] == []
    second = await rate(desk, good, True)
    assert [pair["state"] for pair in second.reply["pairs"]] == ["eligible"]
    [pair] = await pairs(desk)
    assert (pair.chosen.message.text, pair.rejected.message.text) == ("Good.", "Bad.")
    assert (pair.basis, pair.weight) == ("ratings", 0.5)
    assert pair.feedback_ids == (second.reply["id"], first.reply["id"])


async def test_two_thumbs_that_come_at_once_through_two_workers_make_one_pair(desk: Any) -> None:
    prompts = [
        (await desk.complete("Good.", prompt=str(n)), await desk.complete("Bad.", prompt=str(n))) for n in range(8)
    ]
    workers = [GroupCommit(desk.database, "durable", max_group=3) for _ in range(2)]

    def vote(worker: GroupCommit, completion: str, value: bool) -> Any:
        body = {"type": "rating", "target": {"completion_id": completion}, "name": "thumbs", "value": value}

        async def store(session: AsyncSession) -> Captured:
            return await desk.capture.capture(session, desk.caller, parse_body(body))

        return worker.submit(store)

    await asyncio.gather(
        *(vote(workers[0], good, True) for good, _ in prompts),
        *(vote(workers[1], bad, False) for _, bad in reversed(prompts)),
    )
    for worker in workers:
        await worker.close()
    assert len(await pairs(desk)) == 8


@pytest.mark.parametrize("taken_back", [0, 1])
async def test_retracting_either_thumb_takes_the_pair_back(desk: Any, taken_back: int) -> None:
    good, bad = await desk.complete("Good."), await desk.complete("Bad.")
    votes = [await rate(desk, good, True), await rate(desk, bad, False)]
    async with desk.database.write() as session:
        await desk.capture.retract(session, desk.caller, votes[taken_back].reply["id"])
    assert await pairs(desk) == []
    assert await reasons(desk) == ["retracted"]


@pytest.mark.parametrize("changed", [0, 1])
async def test_changing_either_thumb_takes_the_pair_back(desk: Any, changed: int) -> None:
    good, bad = await desk.complete("Good."), await desk.complete("Bad.")
    await rate(desk, good, True)
    await rate(desk, bad, False)
    await rate(desk, (good, bad)[changed], bool(changed))
    assert await pairs(desk) == []
    assert await reasons(desk) == ["superseded"]


async def test_swapping_both_thumbs_turns_the_pair_round(desk: Any) -> None:
    one, other = await desk.complete("One."), await desk.complete("Other.")
    for completion, value in ((one, True), (other, False), (one, False), (other, True)):
        await rate(desk, completion, value)
    assert [pair.chosen.message.text for pair in await pairs(desk)] == ["Other."]


async def test_thumbs_of_one_prompt_make_at_most_three_pairs_a_rater(desk: Any) -> None:
    for number in range(5):
        await rate(desk, await desk.complete(f"Bad {number}."), False)
    vote = await rate(desk, await desk.complete("Good."), True)
    assert len(vote.reply["pairs"]) == 3
    second = await rate(desk, await desk.complete("Good too."), True)
    assert {pair["reason"] for pair in second.reply["pairs"]} == {"pair_limit"}
    assert len(await pairs(desk)) == 3


async def test_thumbs_on_different_prompts_or_by_different_metrics_make_no_pair(desk: Any) -> None:
    desk.settings = FeedbackSettings(metrics=(MetricSettings(name="polite", pairs=True),))
    await rate(desk, await desk.complete("Good."), True)
    await rate(desk, await desk.complete("Bad.", prompt="Is it cheap?"), False)
    await rate(desk, await desk.complete("Rude."), False, "polite")
    assert await pairs(desk) == []


async def test_a_scale_makes_pairs_only_where_its_metric_may(desk: Any) -> None:
    for may in (False, True):
        metric = MetricSettings(name=f"clear-{str(may).lower()}", type="scale", min=1, max=5, pairs=may)
        desk.settings = FeedbackSettings(metrics=(metric,))
        for text, value in (("Good.", 5), ("So so.", 3), ("Bad.", 1)):
            await rate(desk, await desk.complete(text, prompt=str(may)), value, metric.name)
        made = await pairs(desk)
        assert [(p.chosen.message.text, p.rejected.message.text) for p in made] == [("Good.", "Bad.")] * may


async def test_thumbs_of_different_raters_pair_only_where_it_is_set(desk: Any) -> None:
    for across, count in ((False, 0), (True, 1)):
        desk.settings = FeedbackSettings(pairing=PairingSettings(across_raters=across))
        good, bad = [await desk.complete(text, prompt=str(across)) for text in ("Good.", "Bad.")]
        await rate(desk, good, True, rater={"id": "ann"})
        vote = await rate(desk, bad, False, rater={"id": "bob"})
        assert len(vote.reply["pairs"]) == count
    [pair] = await pairs(desk)
    assert (pair.weight, pair.basis) == (0.3, "ratings")


async def test_a_judge_weighs_a_quarter_and_is_named_as_one(desk: Any) -> None:
    good, bad = await desk.complete("Good."), await desk.complete("Bad.")
    refs = {"chosen": {"completion_id": good}, "rejected": [{"completion_id": bad}]}
    await desk.vote({"type": "preference", "rater": {"id": "gpt", "kind": "judge"}} | refs, DELEGATE)
    [pair] = await pairs(desk)
    assert (pair.basis, pair.weight, pair.rater.kind, pair.rater.trusted) == ("judge", 0.25, "judge", False)


async def test_only_a_key_that_may_name_raters_is_trusted_in_its_own_name(desk: Any) -> None:
    for number, (caller, rater) in enumerate([(desk.caller, None), (DELEGATE, None), (DELEGATE, {"id": "ann"})]):
        good, bad = [await desk.complete(text, prompt=str(number)) for text in ("Good.", "Bad.")]
        refs = {"chosen": {"completion_id": good}, "rejected": [{"completion_id": bad}]}
        await desk.vote({"type": "preference"} | refs | ({"rater": rater} if rater else {}), caller)
    assert [pair.rater.trusted for pair in await pairs(desk)] == [False, True, False]
    async with desk.database.read() as session:
        stored = (await session.scalars(select(Feedback).order_by(Feedback.created_at))).all()
    assert [(row.key_id, row.rater_trusted) for row in stored] == [
        ("key_voter", False),
        ("key_app", True),
        ("key_app", False),
    ]


async def test_an_imported_pair_says_whence_and_under_which_licence(desk: Any) -> None:
    await desk.vote(
        {
            "type": "pair",
            "source": "crm-2026",
            "licence": "CC-BY-4.0",
            "input": {"messages": [{"role": "user", "content": "Hi"}]},
            "preferred_output": [{"role": "assistant", "content": "Hello."}],
            "non_preferred_output": [{"role": "assistant", "content": "What?"}],
        }
    )
    [pair] = await pairs(desk)
    assert (pair.basis, pair.source, pair.licence) == ("import", "crm-2026", "CC-BY-4.0")


async def test_a_chinese_correction_of_a_fact_is_marked_as_one(desk: Any) -> None:
    completion = await desk.complete("每次服用五毫克。")
    await desk.vote(
        {"type": "correction", "target": {"completion_id": completion}, "message": {"content": "每次服用三毫克。"}}
    )
    [pair] = await pairs(desk)
    assert (pair.basis, pair.fact, pair.weight) == ("correction", True, 1.0)


async def test_ratings_that_stand_alone_are_kept_with_their_answer(desk: Any) -> None:
    good, bad, alone = [await desk.complete(text) for text in ("Good.", "Bad.", "Alone.")]
    await rate(desk, good, True)
    await rate(desk, bad, False)
    await rate(desk, await desk.complete("One.", prompt="Another?"), True)
    retracted = await rate(desk, alone, True, rater={"id": "ann"})
    await rate(desk, await desk.complete("Also.", prompt="Third?"), False, rater={"id": "ann", "kind": "annotator"})
    async with desk.database.write() as session:
        await desk.capture.retract(session, DELEGATE, retracted.reply["id"])
    async with desk.database.read() as session:
        found = [one async for some in unpaired_ratings(session, "assistant", "proj_1") for one in some]
        assert [some async for some in unpaired_ratings(session, "other", "proj_1")] == []
        assert [some async for some in unpaired_ratings(session, "assistant", "proj_2")] == []
    assert [(one.prompt[0]["content"], one.message["content"], one.up) for one in found] == [
        ("Another?", "One.", True),
        ("Third?", "Also.", False),
    ]
    assert [one.rater_kind for one in found] == ["end_user", "annotator"]
    assert found[0].release_id == "rel_1"


async def test_an_undeclared_metric_stores_nothing(desk: Any) -> None:
    with pytest.raises(InvalidRequest, match="declared are `thumbs`"):
        await rate(desk, await desk.complete("Good."), 3, "kindness")
    async with desk.database.read() as session:
        assert (await session.scalars(select(Feedback))).all() == []
