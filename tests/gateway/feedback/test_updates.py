"""Votes changed after the fact: what may change, and what becomes of the pairs."""

from typing import Any

import pytest
from sqlalchemy import select

from gateway.access.caller import Caller
from gateway.errors import AlignwayError, Conflict, InvalidRequest, NotFound, NotPermitted
from gateway.storage.feedback_tables import Feedback, FeedbackRevision, PairRow


async def update(desk: Any, feedback_id: str, changes: Any, caller: Caller | None = None) -> dict[str, Any]:
    async with desk.database.write() as session:
        reply: dict[str, Any] = await desk.capture.update(session, caller or desk.caller, feedback_id, changes)
        return reply


async def refusal(desk: Any, feedback_id: str, changes: Any, kind: type[AlignwayError], **others: Any) -> AlignwayError:
    with pytest.raises(kind) as caught:
        await update(desk, feedback_id, changes, **others)
    return caught.value


async def body_of(desk: Any, feedback_id: str) -> dict[str, Any]:
    async with desk.database.read() as session:
        return dict((await session.get_one(Feedback, feedback_id)).body)


async def eligible(desk: Any) -> list[str]:
    async with desk.database.read() as session:
        rows = await session.scalars(select(PairRow).where(PairRow.state == "eligible"))
        return [row.body["chosen"]["message"]["content"] for row in rows]


async def preference(desk: Any, **fields: Any) -> tuple[str, str, str]:
    one, other = await desk.complete("One."), await desk.complete("Other.")
    return (await desk.prefer(one, other, **fields)).reply["id"], one, other


async def test_notes_beside_a_vote_change_without_touching_its_pairs(desk: Any) -> None:
    vote, *_ = await preference(desk, comment="hm", tags=["old"])
    reply = await update(desk, vote, {"tags": ["new"], "comment": None, "metadata": {"app": "desk"}})
    assert (reply["revision"], [pair["state"] for pair in reply["pairs"]]) == (2, ["eligible"])
    body = await body_of(desk, vote)
    assert (body["tags"], body.get("comment"), body["metadata"]) == (["new"], None, {"app": "desk"})
    async with desk.database.read() as session:
        history = (await session.scalars(select(FeedbackRevision).order_by(FeedbackRevision.revision))).all()
    assert [row.body["tags"] for row in history] == [["old"], ["new"]]


async def test_an_update_that_changes_nothing_is_no_revision(desk: Any) -> None:
    vote, *_ = await preference(desk, tags=["same"])
    assert (await update(desk, vote, {"tags": ["same"]}))["revision"] == 1


async def test_a_preference_can_be_turned_into_a_tie_and_round(desk: Any) -> None:
    vote, one, other = await preference(desk, strength=3)
    tie = await update(desk, vote, {"verdict": "tie"})
    assert (tie["id"], tie["revision"], tie["pairs"]) == (vote, 2, [])
    turned = {"chosen": {"completion_id": other}, "rejected": [{"completion_id": one}]}
    assert (await update(desk, vote, turned))["revision"] == 3
    assert await eligible(desk) == ["Other."]
    assert "strength" not in await body_of(desk, vote)


async def test_a_rating_and_a_correction_can_be_changed(desk: Any) -> None:
    good, bad = await desk.complete("Good."), await desk.complete("Bad.")
    thumbs = [
        (await desk.vote({"type": "rating", "target": {"completion_id": c}, "name": "thumbs", "value": v})).reply["id"]
        for c, v in ((good, True), (bad, False))
    ]
    assert await eligible(desk) == ["Good."]
    await update(desk, thumbs[0], {"value": False})
    assert await eligible(desk) == []
    target = {"completion_id": bad}
    correction = await desk.vote({"type": "correction", "target": target, "message": {"content": "Bad, better."}})
    await update(desk, correction.reply["id"], {"message": {"content": "Bad? 最好."}})
    assert await eligible(desk) == ["Bad? 最好."]


async def test_a_ranking_keeps_its_choices(desk: Any) -> None:
    a, b, c = [{"completion_id": await desk.complete(text)} for text in ("A.", "B.", "C.")]
    vote = (await desk.vote({"type": "ranking", "ranking": [[a], [b]]})).reply["id"]
    assert (await update(desk, vote, {"ranking": [[b], [a]]}))["revision"] == 2
    assert await eligible(desk) == ["B."]
    assert (await refusal(desk, vote, {"ranking": [[b], [c]]}, InvalidRequest)).code == "other_choices"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"type": "rating"}, "type"),
        ({"rater": {"id": "ann"}}, "rater"),
        ({"value": True}, "value"),
        ({"tags": "no list"}, "tags"),
        ({"comment": "x" * 4001}, "comment"),
        ({"strength": 9, "verdict": "prefer"}, "strength"),
        ({}, None),
        ([], None),
    ],
)
async def test_a_change_that_cannot_be_is_refused_with_its_place(desk: Any, changes: Any, param: str | None) -> None:
    vote, *_ = await preference(desk)
    error = await refusal(desk, vote, changes, InvalidRequest)
    assert (error.status, error.param) == (400, param)
    assert await eligible(desk) == ["One."]


async def test_of_an_imported_pair_only_the_notes_change(desk: Any) -> None:
    pair = {
        "type": "pair",
        "source": "crm",
        "licence": "internal",
        "input": {"messages": [{"role": "user", "content": "Hi"}]},
        "preferred_output": [{"role": "assistant", "content": "Hello."}],
        "non_preferred_output": [{"role": "assistant", "content": "What?"}],
    }
    vote = (await desk.vote(pair)).reply["id"]
    assert (await update(desk, vote, {"tags": ["checked"]}))["revision"] == 2
    await refusal(desk, vote, {"preferred_output": pair["preferred_output"]}, InvalidRequest)


async def test_only_the_voter_or_a_delegate_of_the_project_changes_a_vote(desk: Any) -> None:
    vote, *_ = await preference(desk)
    changes = {"tags": ["x"]}
    colleague = Caller("key_other", "proj_1", frozenset({"feedback"}))
    assert "feedback:delegate" in (await refusal(desk, vote, changes, NotPermitted, caller=colleague)).message
    stranger = Caller("key_2", "proj_2", frozenset({"feedback", "feedback:delegate"}))
    assert (await refusal(desk, vote, changes, NotFound, caller=stranger)).code == "feedback_not_found"
    delegate = Caller("key_other", "proj_1", frozenset({"feedback", "feedback:delegate"}))
    assert (await update(desk, vote, changes, delegate))["revision"] == 2


async def test_a_vote_that_was_taken_back_is_not_changed(desk: Any) -> None:
    vote, *_ = await preference(desk)
    async with desk.database.write() as session:
        await desk.capture.retract(session, desk.caller, vote)
    assert (await refusal(desk, vote, {"tags": ["x"]}, Conflict)).status == 409
