"""Raters in numbers; blocked ones are held, before and after; keys that allow no training make no pairs."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from gateway.access.caller import Caller
from gateway.datasets.collect import collect
from gateway.feedback.identity import user_hash
from gateway.privacy.raters import Decision, RaterNotFound, decide, list_raters, show_rater
from gateway.settings import DatasetSettings
from gateway.storage.feedback_tables import Feedback, PairRow
from gateway.storage.tables import ApiKey, AuditEntry
from tests.gateway.privacy.conftest import DELEGATE, Place


def hash_of(place: Place, user: str) -> str:
    return user_hash("proj_1", user, place.secrets)


async def states(place: Place) -> list[tuple[str, str | None]]:
    async with place.database.read() as session:
        found = await session.execute(select(PairRow.state, PairRow.reason).order_by(PairRow.id))
    return [(state, reason) for state, reason in found]


async def statuses(place: Place) -> list[str]:
    async with place.database.read() as session:
        return list(await session.scalars(select(Feedback.status).order_by(Feedback.id)))


async def trainable(place: Place) -> int:
    return len((await collect(place.database, "assistant", DatasetSettings())).chosen)


async def settled(place: Place, user: str, decision: Decision) -> None:
    async with place.database.write() as session:
        await decide(session, hash_of(place, user), decision, "key_admin")


async def test_a_rater_is_shown_with_votes_by_type_and_pairs_by_state(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    chosen, other = await place.complete("amy", "Yes."), await place.complete("amy", "Yes.")
    await place.prefer("amy", chosen, other)  # equal sides: no pair that trains
    edited = {"role": "assistant", "content": "Yes. 不安全。"}
    await place.vote("amy", {"type": "correction", "target": {"completion_id": other}, "message": edited})
    async with place.database.read() as session:
        shown = await show_rater(session, hash_of(place, "amy"))
    assert shown["votes"] == {"preference": 2, "correction": 1}
    assert shown["pairs"] == {"eligible": 2, "excluded": 1}
    assert (shown["project"], shown["kinds"], shown["blocked"], shown["trusted"]) == (
        "proj_1", ["end_user"], False, False
    )  # fmt: skip
    assert shown["first_vote_at"] <= shown["last_vote_at"]


async def test_raters_are_listed_in_pages(place: Place) -> None:
    for user in ("amy", "bob", "eve"):
        await place.chat_and_vote(user, f"is it safe, {user}?")
    expected = sorted(hash_of(place, user) for user in ("amy", "bob", "eve"))
    async with place.database.read() as session:
        first = await list_raters(session, "", 2)
        second = await list_raters(session, first[-1]["id"], 2)
        assert [rater["id"] for rater in (*first, *second)] == expected
        with pytest.raises(RaterNotFound):
            await show_rater(session, "r_nobody")


async def test_the_votes_of_a_blocked_rater_are_held_those_given_and_those_to_come(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    await place.chat_and_vote("bob", "is it late?")
    await settled(place, "amy", Decision(blocked=True))
    await place.chat_and_vote("amy", "is it cold?")
    assert await statuses(place) == ["held", "active", "held"]
    assert await states(place) == [("held", "rater_blocked"), ("eligible", None), ("held", "rater_blocked")]
    assert await trainable(place) == 1
    await settled(place, "amy", Decision(blocked=False))
    assert await statuses(place) == ["active"] * 3
    assert await states(place) == [("eligible", None)] * 3
    assert await trainable(place) == 3


async def test_unblocking_leaves_held_what_is_held_for_another_reason(place: Place) -> None:
    vote = await place.chat_and_vote("amy", "is it safe?")
    async with place.database.write() as session:
        (await session.get_one(Feedback, vote)).status = "held"
        pair = await session.scalar(select(PairRow))
        assert pair is not None
        pair.state, pair.reason = "held", "quarantine"
    await settled(place, "amy", Decision(blocked=True))
    await settled(place, "amy", Decision(blocked=False))
    assert await statuses(place) == ["held"]
    assert await states(place) == [("held", "quarantine")]


async def test_a_trusted_rater_is_named_so_in_the_pairs_to_come(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    await settled(place, "amy", Decision(trusted=True, note="the pharmacist"))
    await place.chat_and_vote("amy", "is it late?")
    async with place.database.read() as session:
        bodies = (await session.scalars(select(PairRow.body).order_by(PairRow.id))).all()
        shown = await show_rater(session, hash_of(place, "amy"))
    assert [body["rater"]["trusted"] for body in bodies] == [False, True]
    assert (shown["trusted"], shown["note"]) == (True, "the pharmacist")


async def test_a_decision_is_audited_without_its_note(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    await settled(place, "amy", Decision(blocked=True, note="said something private"))
    async with place.database.read() as session:
        entry = await session.scalar(select(AuditEntry))
    assert entry is not None
    assert (entry.action, entry.subject, entry.actor) == ("rater.decided", hash_of(place, "amy"), "key_admin")
    assert entry.detail == {"before": {"blocked": False}, "after": {"blocked": True}}


async def forbid_training(place: Place, key: str) -> None:
    async with place.database.write() as session:
        (await session.get_one(ApiKey, key)).train = False


async def test_votes_of_a_key_without_training_make_no_pairs(place: Place) -> None:
    await forbid_training(place, "key_app")
    answers = [await place.complete("amy", text, key_id="key_elsewhere") for text in ("是。", "否。")]
    await place.prefer("amy", *answers)
    assert await statuses(place) == ["active"]
    assert await states(place) == [("excluded", "no_training_key")]


async def test_completions_of_a_key_without_training_make_no_pairs_whoever_votes(place: Place) -> None:
    async with place.database.write() as session:
        session.add(
            ApiKey(id="key_private", project_id="proj_1", name="p", secret_sha256="p", scopes=[], created_at=1.0,
                   train=False)
        )  # fmt: skip
    mine, other = await place.complete("amy", "Yes.", key_id="key_private"), await place.complete("bob", "No.")
    voter: Caller = replace(DELEGATE, key_id="key_app")
    await place.prefer("bob", other, mine, caller=voter)
    assert await states(place) == [("excluded", "no_training_key")]
