"""Votes taken in together leave what votes taken in one by one leave, with fewer statements."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete, event, select, update

from gateway.access.caller import Caller
from gateway.errors import InvalidRequest, NotFound
from gateway.feedback.batch import Ballot, VoteBatch
from gateway.feedback.bodies import parse_body
from gateway.feedback.capture import Captured
from gateway.feedback.identity import rater_of
from gateway.settings import FeedbackSettings, PairingSettings
from gateway.storage.feedback_tables import Feedback, FeedbackRevision, PairRow
from gateway.storage.group_commit import GroupCommit
from gateway.storage.privacy_tables import CompletionVote, PairVote

CALLER = Caller("key_app", "proj_1", frozenset({"feedback", "feedback:write_text", "feedback:delegate"}))
SHOWN = ("type", "status", "revision", "rater", "target")


def ballot(desk: Any, body: dict[str, Any]) -> Ballot:
    parsed = parse_body(body)
    return Ballot(CALLER, parsed, rater_of(CALLER, parsed, desk.secrets))


async def together(desk: Any, bodies: list[dict[str, Any]]) -> list[Captured | Exception]:
    group, batch = GroupCommit(desk.database, "durable"), VoteBatch(desk.capture)
    votes = (group.submit_to(batch, ballot(desk, body)) for body in bodies)
    outcomes: list[Any] = await asyncio.gather(*votes, return_exceptions=True)
    await group.close()
    return outcomes


async def one_by_one(desk: Any, bodies: list[dict[str, Any]]) -> list[Captured | Exception]:
    outcomes: list[Captured | Exception] = []
    for body in bodies:
        try:
            outcomes.append(await desk.vote(body, CALLER))
        except Exception as error:
            outcomes.append(error)
    return outcomes


def said(outcome: Captured | Exception) -> Any:
    if isinstance(outcome, Exception):
        return type(outcome), str(outcome).split("'")[0]
    pairs = [(pair["state"], pair.get("reason")) for pair in outcome.reply["pairs"]]
    return outcome.created, {name: outcome.reply[name] for name in SHOWN}, pairs


async def stored(desk: Any) -> list[Any]:
    async with desk.database.read() as session:
        votes = (await session.scalars(select(Feedback).order_by(Feedback.natural_key))).all()
        keys = {vote.id: vote.natural_key for vote in votes}
        pairs = await session.scalars(select(PairRow))
        revisions = await session.scalars(select(FeedbackRevision))
        links = await session.execute(select(CompletionVote.completion_id, CompletionVote.feedback_id))
        columns = ("natural_key", "body", "target", "key_id", "prompt_hash", "leaning", "rater_trusted", "alias")
        return [
            [[getattr(vote, name) for name in columns] for vote in votes],
            sorted((keys[row.feedback_id], row.state, str(row.reason), row.body["weight"]) for row in pairs),
            sorted((keys[row.feedback_id], row.revision, str(row.body)) for row in revisions),
            sorted((completion, keys[vote]) for completion, vote in links),
        ]


async def clear(desk: Any) -> None:
    async with desk.database.write() as session:
        for table in (PairVote, CompletionVote, PairRow, FeedbackRevision, Feedback):
            await session.execute(delete(table))


async def mixed_bodies(desk: Any) -> list[dict[str, Any]]:
    """Every kind of vote, repeated, contradicted, paired, refused."""
    a, b, c = [{"completion_id": await desk.complete(text)} for text in ("A.", "B.", "C.")]
    other = {"completion_id": await desk.complete("Other.", prompt="另一个问题？")}
    ann = {"rater": {"id": "ann"}}
    prefer = {"type": "preference", "chosen": a, "rejected": [b]}
    thumb = {"type": "rating", "name": "thumbs"}
    return [
        prefer,
        prefer | ann,
        prefer,
        prefer | {"chosen": b, "rejected": [a]},
        {"type": "ranking", "ranking": [[a], [b], [c]], "strength": 2, "rater": {"id": "bob"}},
        thumb | ann | {"target": a, "value": True},
        thumb | ann | {"target": b, "value": False},
        thumb | {"target": other, "value": True},
        {"type": "correction", "target": other, "message": {"content": "Others."}},
        prefer | {"chosen": other},
        thumb | {"target": other, "name": "kindness", "value": 1},
        thumb | {"target": {"completion_id": "chatcmpl-unknown"}, "value": True},
        {"type": "preference", "verdict": "tie", "choices": [b, c], "rater": {"id": "eve"}},
    ]


async def test_votes_taken_in_together_leave_what_single_ones_leave(desk: Any) -> None:
    bodies = await mixed_bodies(desk)
    alone = await one_by_one(desk, bodies)
    left_alone = await stored(desk)
    await clear(desk)
    at_once = await together(desk, bodies)
    by_body = sorted(zip(map(str, bodies), map(said, alone), strict=True), key=str)
    assert sorted(zip(map(str, bodies), map(said, at_once), strict=True), key=str) == by_body
    assert await stored(desk) == left_alone


async def test_thumbs_of_one_batch_make_their_pair(desk: Any) -> None:
    good, bad = await desk.complete("Good."), await desk.complete("Bad.")
    thumbs = [
        {"type": "rating", "name": "thumbs", "target": {"completion_id": id_}, "value": value}
        for id_, value in ((good, True), (bad, False))
    ]
    for across in (False, True):
        desk.settings = FeedbackSettings(pairing=PairingSettings(across_raters=across))
        raters = [{"id": "ann"}, {"id": "bob" if across else "ann"}]
        await together(desk, [thumb | {"rater": rater} for thumb, rater in zip(thumbs, raters, strict=True)])
        async with desk.database.read() as session:
            rows = (await session.scalars(select(PairRow))).all()
        assert [row.body["weight"] for row in rows] == [0.3 if across else 0.5]
        await clear(desk)


async def test_one_bad_vote_of_a_batch_harms_no_other(desk: Any) -> None:
    completion = await desk.complete("Good.")
    thumb = {"type": "rating", "name": "thumbs", "target": {"completion_id": completion}, "value": True}
    foreign = {"completion_id": await desk.complete("Theirs.", project_id="proj_2")}
    outcomes = await together(desk, [thumb | {"name": "x"}, thumb | {"target": foreign}, thumb])
    assert [type(outcome) for outcome in outcomes[:2]] == [InvalidRequest, outcomes[1].__class__]
    assert isinstance(outcomes[1], NotFound)
    assert isinstance(outcomes[2], Captured)


async def test_a_batch_of_fifty_votes_takes_few_statements(desk: Any) -> None:
    bodies = []
    for number in range(50):
        pair = await desk.complete("Good.", "Bad.", prompt=str(number))
        refs = [{"completion_id": pair, "index": index} for index in (0, 1)]
        bodies.append({"type": "preference", "chosen": refs[0], "rejected": refs[1:]})
    statements: list[str] = []
    engine = desk.database.engine("durable").sync_engine

    def count(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    outcomes = await together(desk, bodies)
    assert all(isinstance(outcome, Captured) and outcome.created for outcome in outcomes)
    assert len(statements) <= 12, statements


@pytest.mark.parametrize("size", [1, 2])
async def test_what_is_to_be_kept_with_a_vote_is_written_in_its_transaction(desk: Any, size: int) -> None:
    kept: list[str] = []
    votes = []
    for number in range(size):
        completion = await desk.complete("Good.", prompt=str(number))
        body = {"type": "rating", "name": "thumbs", "target": {"completion_id": completion}, "value": True}

        async def keep(session: Any, captured: Captured) -> None:
            assert await session.get(Feedback, captured.reply["id"]) is not None
            kept.append(captured.reply["id"])

        plain = ballot(desk, body)
        votes.append(Ballot(plain.caller, plain.body, plain.rater, keep))
    group, batch = GroupCommit(desk.database, "durable"), VoteBatch(desk.capture)
    outcomes = await asyncio.gather(*(group.submit_to(batch, vote) for vote in votes))
    await group.close()
    assert kept == [outcome.reply["id"] for outcome in outcomes]


async def test_a_vote_whose_prompt_was_hashed_otherwise_before_is_still_the_same_record(desk: Any) -> None:
    """The patterns of `feedback.ignore` may have changed since: its natural key has not."""
    first, second = await desk.complete("Good.", prompt="1"), await desk.complete("Good.", prompt="2")
    thumb = {"type": "rating", "name": "thumbs", "value": True}
    known = {**thumb, "target": {"completion_id": first}}
    [told] = await together(desk, [known])
    async with desk.database.write() as session:
        await session.execute(update(Feedback).values(prompt_hash="ph_other"))
    again, new = await together(desk, [known, {**thumb, "target": {"completion_id": second}}])
    assert (again.reply["id"], again.created, again.reply["revision"]) == (told.reply["id"], False, 1)
    assert new.created
    async with desk.database.read() as session:
        assert len((await session.scalars(select(Feedback))).all()) == 2
