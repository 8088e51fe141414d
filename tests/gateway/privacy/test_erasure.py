"""Erasing a user takes everything about that user, and nothing about anybody else."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select, text

from gateway.access.caller import Caller
from gateway.contracts.pair import FeedbackPair
from gateway.datasets.pair_file import read_lineage
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.feedback.reading import FeedbackNotFound, show_feedback
from gateway.privacy.erasure import look_again
from gateway.rollout.promotion import Promotion, promote
from gateway.storage.feedback_tables import Completion, Dataset, Feedback, FeedbackRevision, PairRow, Run
from gateway.storage.pairs import add_pair
from gateway.storage.privacy_tables import CompletionVote, Erasure, Tombstone
from gateway.storage.stored import find_stored
from gateway.storage.tables import AuditEntry, ReleaseRow, Usage
from tests.gateway.privacy.conftest import Place


async def test_votes_revisions_pairs_and_completions_of_the_user_are_gone_and_those_of_others_stay(
    place: Place,
) -> None:
    own = await place.chat_and_vote("amy", "is it safe?")
    others = await place.chat_and_vote("bob", "is it late?")
    done = await place.erase("amy")
    assert done.state == "done"
    assert done.counts == {
        "completion": 2, "completion_vote": 2, "feedback": 1, "feedback_pair": 1, "feedback_revision": 1
    }  # fmt: skip
    assert await place.rows(Feedback) == [others]
    assert len(await place.rows(Completion)) == 2
    assert len(await place.rows(PairRow)) == 1
    async with place.database.read() as session:
        with pytest.raises(FeedbackNotFound):
            await show_feedback(session, "proj_1", own)


async def test_a_vote_by_somebody_else_on_the_users_chat_goes_with_it(place: Place) -> None:
    mine, other = await place.complete("amy", "我的住址是…"), await place.complete(None, "No.")
    await place.prefer("bob", mine, other)
    await place.vote(
        "bob",
        {
            "type": "correction",
            "target": {"completion_id": mine},
            "message": {"role": "assistant", "content": "改好了"},
        },
    )
    await place.erase("amy")
    assert await place.rows(PairRow) == []
    assert await place.rows(Feedback) == []
    assert await place.rows(Completion) == [other]


async def test_a_pair_whose_completion_was_deleted_by_age_is_found_all_the_same(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    async with place.database.write() as session:
        await session.execute(Completion.__table__.delete())
    done = await place.erase("amy")
    assert done.counts["feedback_pair"] == 1
    assert await place.rows(PairRow) == []


async def pair_of_two_ratings(place: Place) -> tuple[str, str, str]:
    """Bob likes what amy was answered, eve dislikes what carl was: one pair, of eve's vote. Its id and the votes."""
    amys, carls = await place.complete("amy", "Yes."), await place.complete("carl", "No.")
    tie = {"type": "preference", "verdict": "tie"}
    others = [await place.complete(None, answer) for answer in ("a", "b")]
    bobs, eves = [
        str((await place.vote(user, tie | {"choices": [{"completion_id": one}, {"completion_id": other}]})).reply["id"])
        for user, one, other in (("bob", amys, others[0]), ("eve", carls, others[1]))
    ]
    side = {"origin": "model", "index": 0}
    pair = FeedbackPair.model_validate(
        {
            "id": "pair_1", "project_id": "proj_1", "prompt": [{"role": "user", "content": "Is it safe?"}],
            "prompt_hash": "ph_1", "weight": 0.3, "basis": "ratings", "feedback_ids": [eves, bobs],
            "chosen": side | {"message": {"role": "assistant", "content": "Yes."}, "completion_id": amys},
            "rejected": side | {"message": {"role": "assistant", "content": "No."}, "completion_id": carls},
            "rater": {"id_hash": "r_1", "kind": "end_user"}, "judged_at": datetime.now(UTC),
        }
    )  # fmt: skip
    async with place.database.write() as session:
        await add_pair(session, pair, "assistant", "eligible", None)
    return pair.id, bobs, eves


@pytest.mark.parametrize("user", ["amy", "bob", "carl", "eve"])
async def test_a_pair_of_two_ratings_goes_with_each_of_the_four_people_in_it(place: Place, user: str) -> None:
    pair, bobs, eves = await pair_of_two_ratings(place)
    await place.freeze("ds_1")
    done = await place.erase(user)
    assert await place.rows(PairRow) == []
    assert done.counts["feedback_pair"] == 1
    assert done.datasets == {"ds_1": None}
    left = {"amy": [], "bob": [eves], "carl": [bobs], "eve": [bobs]}[user]
    assert await place.rows(Feedback) == left
    assert pair in await place.rows(Tombstone)


async def test_a_vote_on_a_completion_after_its_erasure_is_404(place: Place) -> None:
    mine, other = await place.complete("amy", "Yes."), await place.complete("bob", "No.")
    await place.erase("amy")
    with pytest.raises(NotFound) as refused:
        await place.prefer("bob", other, mine)
    assert (refused.value.status, refused.value.code) == (404, "completion_not_stored")
    async with place.database.read() as session:
        assert await find_stored(session, "proj_1", mine) is None
    assert await place.rows(Tombstone) == [mine]


async def test_an_erasure_in_one_project_leaves_the_others(place: Place) -> None:
    elsewhere = Caller("key_other", "proj_2", frozenset({"feedback", "feedback:delegate"}))
    theirs = [
        await place.complete("amy", answer, project_id="proj_2", alias="other", key_id="key_other")
        for answer in ("Yes.", "No.")
    ]
    kept = await place.prefer("amy", *theirs, caller=elsewhere)
    await place.chat_and_vote("amy", "is it safe?")
    await place.erase("amy", project="p1")
    assert await place.rows(Feedback) == [kept]
    assert sorted(await place.rows(Completion)) == sorted(theirs)
    await place.erase("amy")
    assert await place.rows(Feedback) == []


async def test_a_data_set_with_the_users_pairs_is_written_anew_and_the_old_one_removed(place: Place) -> None:
    await place.chat_and_vote("bob", "is it late?")
    mine = await place.chat_and_vote("amy", "is it safe?")
    folder = await place.freeze("ds_old")
    done = await place.erase("amy")
    new_id = done.datasets["ds_old"]
    assert not folder.exists()
    lineage = list(read_lineage(place.store / "datasets" / new_id))
    assert len(lineage) == 1
    assert mine not in lineage[0][1]
    card = json.loads((place.store / "datasets" / new_id / "card.json").read_text(encoding="utf-8"))
    assert (card["id"], card["pairs"], card["without_erased_from"]) == (new_id, 1, "ds_old")
    for name, digest in card["sha256"].items():
        content = (place.store / "datasets" / new_id / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
    old, new = await place.dataset("ds_old"), await place.dataset(new_id)
    assert (old.replaced_by, old.erasure_id) == (new_id, done.id)
    assert old.removed_at is not None
    assert (new.removed_at, new.location) == (None, f"datasets/{new_id}")


async def test_a_data_set_without_the_users_pairs_stays_to_the_byte(place: Place) -> None:
    await place.chat_and_vote("bob", "is it late?")
    folder = await place.freeze("ds_bobs")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    await place.chat_and_vote("amy", "is it safe?")
    done = await place.erase("amy")
    assert done.datasets == {}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (await place.dataset("ds_bobs")).removed_at is None


async def test_a_data_set_of_the_user_alone_is_dropped(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    folder = await place.freeze("ds_amys")
    done = await place.erase("amy")
    assert done.datasets == {"ds_amys": None}
    assert not folder.exists()
    assert await place.rows(Dataset) == ["ds_amys"]


async def test_releases_trained_on_the_users_pairs_are_tainted_and_listed_also_through_an_older_data_set(
    place: Place,
) -> None:
    for user in ("amy", "bob", "eve"):
        await place.chat_and_vote(user, f"is it safe, {user}?")
    await place.freeze("ds_old")
    await place.release("rel_1", "ds_old")
    await place.release("rel_2", None)
    first = await place.erase("amy")
    assert first.releases == ["rel_1"]
    second = await place.erase("bob")  # bob's pair lies in the data set that replaced the first, and lay in the first
    assert second.releases == ["rel_1"]
    async with place.database.read() as session:
        tainted = {row.id: row.tainted for row in await session.scalars(select(ReleaseRow))}
    assert tainted == {"rel_1": True, "rel_2": False}


async def test_policy_block_refuses_the_promotion_of_what_was_trained_on_the_user(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    await place.freeze("ds_old")
    await place.release("rel_1", "ds_old")
    await place.erase("amy", "block")
    async with place.database.write() as session:
        with pytest.raises(Conflict) as refused:
            await promote(session, Promotion("assistant", "rel_1", "immediate", "key_1"), 1.0)
    assert refused.value.code == "release_blocked"


async def test_policy_schedule_retrain_queues_one_run_for_each_alias_and_flag_none(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    await place.chat_and_vote("bob", "is it late?")
    await place.freeze("ds_old")
    await place.release("rel_1", "ds_old")
    assert (await place.erase("amy", "flag")).runs == []
    done = await place.erase("bob", "schedule_retrain")
    async with place.database.read() as session:
        runs = (await session.scalars(select(Run))).all()
    assert [(run.id, run.alias, run.trigger, run.state) for run in runs] == [
        (done.runs[0], "assistant", "erasure", "queued")
    ]


async def test_a_run_at_work_on_the_data_set_is_cancelled(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    await place.freeze("ds_old")
    async with place.database.write() as session:
        common = {"alias": "assistant", "trigger": "manual", "actor": "key_1", "options": {}, "created_at": 1.0}
        session.add(Run(id="ftjob-1", state="running", dataset_id="ds_old", attempts=1, **common))
        session.add(Run(id="ftjob-2", state="running", dataset_id=None, attempts=1, **common))
    await place.erase("amy")
    async with place.database.read() as session:
        asked = {run.id: run.cancel_requested for run in await session.scalars(select(Run))}
    assert asked == {"ftjob-1": True, "ftjob-2": False}


async def test_usage_is_kept_as_nobodys(place: Place) -> None:
    amy = place.secrets.keyed_hash("end_user", "amy")
    counts = {"requests": 2, "prompt_tokens": 30, "completion_tokens": 5}
    async with place.database.write() as session:
        for user in (amy, ""):
            session.add(Usage(month="2026-11", key_id="key_app", end_user_hash=user, project_id="proj_1", **counts))
    done = await place.erase("amy")
    assert done.counts == {"usage": 1}
    async with place.database.read() as session:
        rows = (await session.scalars(select(Usage))).all()
    assert [(row.end_user_hash, row.requests, row.prompt_tokens, row.completion_tokens) for row in rows] == [
        ("", 4, 60, 10)
    ]


async def test_the_receipt_has_counts_and_hashes_no_text_and_can_be_checked(place: Place) -> None:
    await place.chat_and_vote("amy", "where is 王小明?")
    done = await place.erase("amy")
    receipt = dict(done.receipt or {})
    assert receipt["ids"] == 4  # two completions, a vote and a pair
    async with place.database.read() as session:
        buried = (await session.scalars(select(Tombstone.id).order_by(Tombstone.id))).all()
        audited = (await session.scalars(select(AuditEntry).order_by(AuditEntry.id))).all()
    assert receipt["ids_sha256"] == hashlib.sha256("\n".join(sorted(buried)).encode()).hexdigest()
    digest = receipt.pop("sha256")
    assert digest == hashlib.sha256(json.dumps(receipt, sort_keys=True).encode()).hexdigest()
    assert "amy" not in json.dumps(receipt)
    assert "王小明" not in json.dumps(receipt, ensure_ascii=False)
    assert [(entry.action, entry.subject) for entry in audited] == [
        ("erasure.requested", done.id),
        ("erasure.done", done.id),
    ]


async def test_erasing_again_changes_nothing_and_asking_twice_makes_one_erasure(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    first = await place.request("amy")
    assert (await place.request("amy")).id == first.id
    assert (await place.request("amy", "block")).id != first.id
    await place.erase("amy", "block")
    done = await place.erase("amy")
    assert done.id == first.id
    assert done.counts == {}
    again = await place.erase("amy")
    assert again.id != first.id
    assert again.counts == {}


async def test_what_was_under_way_while_an_erasure_ran_is_erased_by_the_second_look(place: Place) -> None:
    await place.chat_and_vote("amy", "is it safe?")
    done = await place.erase("amy")
    await place.chat_and_vote("amy", "is it late?")
    assert await look_again(place.database, place.store, done, 2.0) == 3
    assert await place.rows(Feedback) == await place.rows(Completion) == []
    async with place.database.read() as session:
        row = await session.get_one(Erasure, done.id)
    assert (row.state, row.checked_at, row.counts["feedback"]) == ("done", 2.0, 2)
    assert await look_again(place.database, place.store, row, 3.0) == 0


@pytest.mark.parametrize(("user", "project"), [("", None), ("x" * 513, None)])
async def test_a_name_that_cannot_be_one_is_refused(place: Place, user: str, project: str | None) -> None:
    with pytest.raises(InvalidRequest):
        await place.request(user, project=project)


async def test_an_unknown_project_is_404(place: Place) -> None:
    with pytest.raises(NotFound) as refused:
        await place.request("amy", project="nowhere")
    assert refused.value.code == "project_not_found"


async def test_more_than_one_batch_is_erased(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.privacy.erasure.BATCH_ROWS", 2)
    for number in range(5):
        await place.chat_and_vote("amy", f"is it {number}?")
    done = await place.erase("amy")
    assert (done.counts["completion"], done.counts["feedback"]) == (10, 5)
    assert await place.rows(CompletionVote) == await place.rows(FeedbackRevision) == []


async def test_a_person_is_found_by_index(place: Place) -> None:
    """Whatever the size of the tables, these look-ups must not read them whole."""
    if place.database.dialect != "sqlite":
        pytest.skip("SQLite tells its plan in a line")
    lookups = {
        "SELECT id FROM completion WHERE end_user_hash = 'x'": "ix_completion_end_user_hash",
        "SELECT feedback_id FROM completion_vote WHERE end_user_hash = 'x'": "ix_completion_vote_end_user_hash",
        "SELECT id FROM feedback WHERE rater_hash IN ('x')": "ix_feedback_rater_hash",
        "SELECT id FROM feedback_pair WHERE feedback_id IN ('x')": "ix_feedback_pair_feedback_id",
        "SELECT pair_id FROM pair_vote WHERE feedback_id IN ('x')": "ix_pair_vote_feedback_id",
        "DELETE FROM completion_vote WHERE feedback_id IN ('x')": "ix_completion_vote_feedback_id",
    }
    async with place.database.write() as session:
        for lookup, index in lookups.items():
            plan: Any = (await session.execute(text(f"EXPLAIN QUERY PLAN {lookup}"))).all()
            assert index in str(plan), lookup
        assert await session.scalar(select(func.count()).select_from(Erasure)) == 0
