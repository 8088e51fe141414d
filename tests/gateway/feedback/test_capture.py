"""Votes over a real SQLite and a real PostgreSQL: stored once, revised, refused, retracted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.caller import Caller
from gateway.contracts.pair import FeedbackPair
from gateway.errors import AlignwayError, InvalidRequest, NotFound, NotPermitted
from gateway.feedback.bodies import parse_body
from gateway.feedback.capture import Captured
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Feedback, FeedbackRevision, PairRow, PromptSide
from gateway.storage.group_commit import GroupCommit
from gateway.storage.tables import Table

MESSAGES = [{"role": "user", "content": "Hi"}]


def pair(preferred: str = "Hello.", non_preferred: str = "What?", **fields: Any) -> dict[str, Any]:
    return {
        "input": {"messages": MESSAGES},
        "preferred_output": [{"role": "assistant", "content": preferred}],
        "non_preferred_output": [{"role": "assistant", "content": non_preferred}],
    } | fields


def correction(target: str, content: str, **fields: Any) -> dict[str, Any]:
    body = {"type": "correction", "target": {"completion_id": target}, "message": {"content": content}}
    return body | fields


HEAD = {"type": "pair", "source": "crm", "licence": "internal"}


async def all_rows(database: Database, table: type[Table]) -> Sequence[Any]:
    async with database.read() as session:
        return (await session.scalars(select(table).order_by(*table.__table__.primary_key))).all()


async def refusal(vote: Awaitable[Captured], kind: type[AlignwayError]) -> AlignwayError:
    with pytest.raises(kind) as caught:
        await vote
    return caught.value


async def test_a_vote_is_answered_as_designed(desk: Any) -> None:
    worse, better = await desk.complete("No.", release_id="rel_1"), await desk.complete("Yes.", release_id="rel_2")
    captured = await desk.prefer(better, worse, comment="clear")
    reply = captured.reply
    assert captured.created
    assert reply["id"].startswith("fb_")
    assert reply["rater"]["id_hash"].startswith("r_")
    assert reply["pairs"][0]["id"].startswith("pair_")
    assert reply == {
        "id": reply["id"],
        "object": "feedback",
        "type": "preference",
        "status": "active",
        "created_at": reply["created_at"],
        "updated_at": reply["created_at"],
        "revision": 1,
        "rater": {"id_hash": reply["rater"]["id_hash"], "kind": "end_user"},
        "target": {
            "prompt_hash": reply["target"]["prompt_hash"],
            "alias": "assistant",
            "release_ids": ["rel_2", "rel_1"],
        },
        "pairs": [{"id": reply["pairs"][0]["id"], "state": "eligible"}],
    }


async def test_the_pair_takes_its_text_from_our_log(desk: Any) -> None:
    both = await desk.complete("No.", "Yes.")
    await desk.vote(
        {
            "type": "preference",
            "chosen": {"completion_id": both, "index": 1},
            "rejected": [{"completion_id": both, "index": 0}],
        }
    )
    [row] = await all_rows(desk.database, PairRow)
    stored = FeedbackPair.model_validate(row.body)
    assert (stored.chosen.message.text, stored.rejected.message.text) == ("Yes.", "No.")
    assert (stored.chosen.completion_id, stored.chosen.index, stored.chosen.release_id) == (both, 1, "rel_1")
    assert [message.text for message in stored.prompt] == ["Is it safe?"]
    assert (row.alias, row.state, row.reason, row.prompt_hash) == ("assistant", "eligible", None, stored.prompt_hash)
    assert stored.feedback_ids == (row.feedback_id,)


async def test_the_same_vote_again_is_the_same_record(desk: Any) -> None:
    worse, better = await desk.complete("No."), await desk.complete("Yes.")
    first, again = await desk.prefer(better, worse), await desk.prefer(better, worse)
    assert (first.created, again.created) == (True, False)
    assert again.reply == first.reply
    assert len(await all_rows(desk.database, Feedback)) == len(await all_rows(desk.database, PairRow)) == 1


async def test_a_changed_mind_is_a_revision_and_replaces_the_pairs(desk: Any) -> None:
    one, other = await desk.complete("No."), await desk.complete("Yes.")
    first, second = await desk.prefer(one, other), await desk.prefer(other, one)
    assert second.reply["id"] == first.reply["id"]
    assert (second.created, second.reply["revision"]) == (False, 2)
    assert [pair["state"] for pair in second.reply["pairs"]] == ["eligible"]
    old, new = await all_rows(desk.database, PairRow)
    assert (old.id, old.state, old.reason) == (first.reply["pairs"][0]["id"], "excluded", "superseded")
    assert (new.state, new.reason) == ("eligible", None)
    history = await all_rows(desk.database, FeedbackRevision)
    assert [(row.revision, row.body["chosen"]["completion_id"]) for row in history] == [(1, one), (2, other)]


async def test_a_tie_replaces_a_preference_between_the_same_two(desk: Any) -> None:
    one, other = await desk.complete("No."), await desk.complete("Yes.")
    first = await desk.prefer(one, other)
    refs = [{"completion_id": other}, {"completion_id": one}]
    tie = await desk.vote({"type": "preference", "verdict": "tie", "choices": refs})
    assert (tie.reply["id"], tie.reply["revision"], tie.reply["pairs"]) == (first.reply["id"], 2, [])
    [pair_row] = await all_rows(desk.database, PairRow)
    assert pair_row.reason == "superseded"


async def test_fifty_identical_votes_at_once_are_one_record(desk: Any) -> None:
    worse, better = await desk.complete("No."), await desk.complete("Yes.")
    votes = await asyncio.gather(*(desk.prefer(better, worse) for _ in range(50)))
    assert sum(vote.created for vote in votes) == 1
    assert len({str(vote.reply) for vote in votes}) == 1
    assert len(await all_rows(desk.database, Feedback)) == len(await all_rows(desk.database, PairRow)) == 1
    assert len(await all_rows(desk.database, FeedbackRevision)) == 1


async def test_fifty_identical_votes_through_two_workers_are_one_record(desk: Any) -> None:
    worse, better = await desk.complete("No."), await desk.complete("Yes.")
    body = parse_body(
        {"type": "preference", "chosen": {"completion_id": better}, "rejected": [{"completion_id": worse}]}
    )
    workers = [GroupCommit(desk.database, "durable", max_group=5) for _ in range(2)]

    async def store(session: AsyncSession) -> Captured:
        return await desk.capture.capture(session, desk.caller, body)

    votes = await asyncio.gather(*(workers[i % 2].submit(store) for i in range(50)))
    for worker in workers:
        await worker.close()
    assert sum(vote.created for vote in votes) == 1
    assert len({str(vote.reply) for vote in votes}) == 1
    assert len(await all_rows(desk.database, Feedback)) == len(await all_rows(desk.database, PairRow)) == 1


async def test_workers_that_vote_in_opposite_orders_all_succeed(desk: Any) -> None:
    ids = [(await desk.complete("No."), await desk.complete("Yes.")) for _ in range(10)]
    workers = [GroupCommit(desk.database, "durable") for _ in range(2)]

    def storing(worse: str, better: str) -> Callable[[AsyncSession], Awaitable[Captured]]:
        body = {"type": "preference", "chosen": {"completion_id": better}, "rejected": [{"completion_id": worse}]}
        return lambda session: desk.capture.capture(session, desk.caller, parse_body(body))

    votes = await asyncio.gather(
        *(workers[0].submit(storing(*pair)) for pair in ids),
        *(workers[1].submit(storing(*pair)) for pair in reversed(ids)),
    )
    for worker in workers:
        await worker.close()
    assert sum(vote.created for vote in votes) == 10
    assert len(await all_rows(desk.database, Feedback)) == 10


async def test_every_rater_has_a_vote_of_their_own_and_no_name_is_stored(desk: Any) -> None:
    worse, better = await desk.complete("No."), await desk.complete("Yes.")
    delegate = Caller("key_app", "proj_1", frozenset({"feedback", "feedback:delegate"}))
    body = {"type": "preference", "chosen": {"completion_id": better}, "rejected": [{"completion_id": worse}]}
    ann = await desk.vote(body | {"rater": {"id": "ann", "kind": "annotator"}}, delegate)
    bob = await desk.vote(body | {"rater": {"id": "bob", "kind": "annotator"}}, delegate)
    own = await desk.vote(body, delegate)
    assert len({vote.reply["id"] for vote in (ann, bob, own)}) == 3
    assert ann.reply["rater"]["kind"] == "annotator"
    stored = str([(row.body, row.rater_hash, row.natural_key) for row in await all_rows(desk.database, Feedback)])
    assert "ann'" not in stored
    assert "bob" not in stored


async def test_voting_for_another_rater_needs_its_scope(desk: Any) -> None:
    worse, better = await desk.complete("No."), await desk.complete("Yes.")
    error = await refusal(desk.prefer(better, worse, rater={"id": "ann"}), NotPermitted)
    assert "`feedback:delegate`" in error.message
    assert await all_rows(desk.database, Feedback) == []


async def test_writing_text_needs_its_scope(desk: Any) -> None:
    completion = await desk.complete("No.")
    voter = Caller("key_voter", "proj_1", frozenset({"feedback"}))
    for body in (correction(completion, "Yes."), HEAD | pair()):
        error = await refusal(desk.vote(body, voter), NotPermitted)
        assert (error.status, "`feedback:write_text`" in error.message) == (403, True)


async def test_unknown_and_foreign_completions_get_the_same_answer(desk: Any) -> None:
    own, foreign = await desk.complete("No."), await desk.complete("Yes.", project_id="proj_2")
    errors = [
        await refusal(desk.prefer(own, other), NotFound) for other in (foreign, foreign[:-1] + "0", "chatcmpl-unknown")
    ]
    assert {(error.status, error.code, error.param) for error in errors} == {
        (404, "completion_not_stored", "completion_id")
    }
    assert len({error.message.split("'")[2] for error in errors}) == 1


async def test_a_choice_that_does_not_exist_is_named(desk: Any) -> None:
    completion = await desk.complete("No.", "Yes.")
    body = {
        "type": "preference",
        "chosen": {"completion_id": completion, "index": 2},
        "rejected": [{"completion_id": completion}],
    }
    error = await refusal(desk.vote(body), InvalidRequest)
    assert error.code == "unknown_choice"
    assert "2 choice(s); there is none with index 2" in error.message


async def test_answers_to_different_prompts_are_refused_with_the_first_difference(desk: Any) -> None:
    one, other = await desk.complete("No."), await desk.complete("Yes.", prompt="Is it sane?")
    error = await refusal(desk.prefer(one, other), InvalidRequest)
    assert (error.status, error.code) == (400, "prompt_mismatch")
    assert "message 0 (user), character 8" in error.message


async def test_a_pair_struck_out_by_a_rule_is_shown_with_its_reason(desk: Any) -> None:
    whole, cut = await desk.complete("Yes."), await desk.complete("No, bec", finish="length")
    reply = (await desk.prefer(whole, cut)).reply
    assert reply["status"] == "active"
    assert reply["pairs"] == [{"id": reply["pairs"][0]["id"], "state": "excluded", "reason": "truncated_output"}]
    assert await all_rows(desk.database, PromptSide) == []


async def test_a_correction_makes_a_pair_over_the_original(desk: Any) -> None:
    completion = await desk.complete("It is safe for everybody, always.")
    reply = (await desk.vote(correction(completion, "It is safe for adults.", edit_kind="fix_fact"))).reply
    assert (reply["type"], reply["target"]["release_ids"]) == ("correction", ["rel_1"])
    [row] = await all_rows(desk.database, PairRow)
    stored = FeedbackPair.model_validate(row.body)
    assert (stored.chosen.origin, stored.chosen.message.text) == ("human", "It is safe for adults.")
    assert (stored.rejected.origin, stored.weight) == ("model", 1.0)


async def test_a_retracted_vote_trains_no_more_and_can_be_given_again(desk: Any) -> None:
    worse, better = await desk.complete("No."), await desk.complete("Yes.")
    first = (await desk.prefer(better, worse)).reply
    for _ in range(2):
        async with desk.database.write() as session:
            answer = await desk.capture.retract(session, desk.caller, first["id"])
        assert answer == {"id": first["id"], "object": "feedback.deleted", "deleted": True}
    [row] = await all_rows(desk.database, PairRow)
    assert (row.state, row.reason) == ("excluded", "retracted")
    again = (await desk.prefer(better, worse)).reply
    assert (again["id"], again["status"], again["revision"]) == (first["id"], "active", 2)
    assert [pair_row.state for pair_row in await all_rows(desk.database, PairRow)] == ["excluded", "eligible"]


async def test_votes_of_others_are_retracted_only_by_delegates(desk: Any) -> None:
    worse, better = await desk.complete("No."), await desk.complete("Yes.")
    vote = (await desk.prefer(better, worse)).reply
    other = Caller("key_other", "proj_1", frozenset({"feedback"}))
    stranger = Caller("key_stranger", "proj_2", frozenset({"admin"}))
    async with desk.database.write() as session:
        with pytest.raises(NotPermitted, match="feedback:delegate"):
            await desk.capture.retract(session, other, vote["id"])
        with pytest.raises(NotFound):
            await desk.capture.retract(session, stranger, vote["id"])
        delegate = Caller("key_boss", "proj_1", frozenset({"feedback", "feedback:delegate"}))
        await desk.capture.retract(session, delegate, vote["id"])


async def test_tools_belong_to_the_prompt_and_to_the_pair(desk: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    worse = await desk.complete("No.", parameters={"tools": tools})
    better = await desk.complete("Yes.", parameters={"tools": tools})
    await desk.prefer(better, worse)
    [row] = await all_rows(desk.database, PairRow)
    assert FeedbackPair.model_validate(row.body).tools == tuple(tools)
    plain = await desk.complete("Maybe.")
    assert "tools or response_format" in (await refusal(desk.prefer(better, plain), InvalidRequest)).message
