"""Where tasks come from, in which order they are handed out, and what an adjudication does."""

import random

import pytest
from sqlalchemy import update

from gateway.annotation.errors import NoTextToCorrect, QueueEmpty
from gateway.annotation.order import AUDIT, CONTESTED, contested, entropy
from gateway.errors import NotPermitted
from gateway.feedback.identity import own_rater
from gateway.storage.annotation_tables import AnnotationTask
from gateway.storage.feedback_tables import PairRow
from gateway.storage.gold import GoldScore, gold_scores
from tests.gateway.annotation.office import SCOPES, Office, annotator

ANNA, BEN, CHEN, DORA = (annotator(name) for name in ("anna", "ben", "chen", "dora"))


@pytest.mark.parametrize(
    ("first", "second", "open_"),
    [(1, 0, False), (1, 1, True), (2, 1, False), (2, 2, True), (3, 2, True), (4, 2, False), (3, 1, False)],
)
def test_votes_both_ways_are_contested_until_one_side_leads_by_two_or_by_two_thirds(
    first: int, second: int, open_: bool
) -> None:
    assert contested(["first"] * first + ["second"] * second + ["tie"]) is open_


def test_entropy_by_hand() -> None:
    assert entropy(["first", "second"]) == 1.0
    assert entropy(["first", "first"]) == 0.0
    assert entropy(["first", "first", "first", "second"]) == pytest.approx(0.8113, abs=1e-4)


async def contest(office: Office, good: str = "Yes.", bad: str = "No.") -> tuple[str, str]:
    """Two answers of which Anna prefers the first and Ben the other."""
    one, other = await office.complete(good), await office.complete(bad)
    await office.vote(ANNA, one, other)
    await office.vote(BEN, other, one)
    return one, other


async def test_contested_votes_are_adjudicated_by_somebody_else(office: Office) -> None:
    one, _ = await contest(office)
    for rater in (ANNA, BEN):
        with pytest.raises(QueueEmpty):
            await office.claim(rater)
    task = await office.claim(CHEN)
    assert (task["asks"], task["verdicts"]) == (
        "adjudication",
        ["left", "right", "discard", "guideline_unclear", "skip"],
    )
    await office.choose(CHEN, task, "Yes.")
    outcome = [(pair.body["chosen"]["completion_id"] == one, pair.state, pair.reason) for pair in await office.pairs()]
    assert outcome == [(True, "eligible", None), (False, "excluded", "adjudicated"), (True, "eligible", None)]
    assert len(await office.votes()) == 3


@pytest.mark.parametrize(
    ("verdict", "state", "reason"),
    [("discard", "excluded", "adjudicated"), ("guideline_unclear", "held", "guideline_unclear")],
)
async def test_an_adjudicator_may_discard_both_or_blame_the_guideline(
    office: Office, verdict: str, state: str, reason: str
) -> None:
    await contest(office)
    await office.submit(CHEN, await office.claim(CHEN), verdict)
    assert {(pair.state, pair.reason) for pair in await office.pairs()} == {(state, reason)}
    assert len(await office.votes()) == 2
    (task,) = await office.tasks()
    assert (task.state, task.outcome) == ("done", verdict)


async def test_an_undone_adjudication_leaves_the_pairs_as_they_were(office: Office) -> None:
    await contest(office)
    await office.submit(CHEN, await office.claim(CHEN), "discard")
    await office.undo(CHEN)
    assert {(pair.state, pair.reason) for pair in await office.pairs()} == {("eligible", None)}


async def test_votes_that_agree_after_all_leave_the_queue(office: Office) -> None:
    one, other = await contest(office)
    await office.refill()
    await office.vote(BEN, one, other)
    await office.refill()
    with pytest.raises(QueueEmpty):
        await office.claim(CHEN)
    await office.vote(BEN, other, one)
    assert (await office.claim(CHEN))["asks"] == "adjudication"


async def test_the_queue_is_filled_once_however_often_it_is_filled(office: Office) -> None:
    await contest(office)
    await office.vote(DORA, await office.complete("A"), await office.complete("B"), verdict="both_bad")
    for _ in range(3):
        await office.refill()
    assert sorted(task.purpose for task in await office.tasks()) == ["both_bad", "contested"]


async def test_both_bad_asks_somebody_else_for_a_correction_which_makes_a_pair(office: Office) -> None:
    await office.vote(ANNA, await office.complete("A"), await office.complete("B"), verdict="both_bad")
    with pytest.raises(QueueEmpty):
        await office.claim(ANNA)
    task = await office.claim(BEN)
    assert task["asks"] == "correction"
    correction = {"side": "left", "content": "血压低于 90 时不要服用。", "edit_kind": "fix_fact"}
    await office.submit(BEN, task, "both_bad", correction=correction)
    (pair,) = await office.pairs()
    assert pair.body["chosen"]["message"]["content"] == "血压低于 90 时不要服用。"
    assert pair.body["rejected"]["message"]["content"] == task["left"]["text"]
    assert pair.body["rater"]["kind"] == "annotator"


async def test_a_correction_needs_the_scope_to_write_text(office: Office) -> None:
    await office.comparison()
    silent = annotator("silent")
    silent = type(silent)(silent.key_id, silent.project_id, SCOPES - {"feedback:write_text"})
    task = await office.claim(silent)
    with pytest.raises(NotPermitted):
        await office.submit(silent, task, "tie", correction={"side": "left", "content": "x"})


async def hold(office: Office, reason: str) -> None:
    async with office.database.write() as session:
        await session.execute(update(PairRow).values(state="held", reason=reason))


@pytest.mark.parametrize(
    ("verdict", "state", "reason"),
    [("keep", "eligible", None), ("drop", "excluded", "adjudicated"), ("discard", "excluded", "adjudicated")],
)
async def test_a_held_correction_is_reviewed_by_somebody_else(
    office: Office, verdict: str, state: str, reason: str | None
) -> None:
    await office.comparison()
    task = await office.claim(ANNA)
    await office.submit(ANNA, task, "tie", correction={"side": "left", "content": "Only with a doctor."})
    await hold(office, "review")
    with pytest.raises(QueueEmpty):
        await office.claim(ANNA)
    review = await office.claim(BEN)
    edit_is_left = review["left"]["text"] == "Only with a doctor."
    said = {"keep": ("left", "right"), "drop": ("right", "left")}.get(verdict, (verdict, verdict))[not edit_is_left]
    with pytest.raises(NoTextToCorrect):
        await office.submit(BEN, review, said, correction={"side": "left", "content": "x"})
    await office.submit(BEN, review, said)
    (pair,) = await office.pairs()
    assert (pair.state, pair.reason) == (state, reason)


async def test_pairs_held_by_an_alarm_wait_for_a_look_and_those_in_quarantine_do_not(office: Office) -> None:
    await office.vote(ANNA, await office.complete("A"), await office.complete("B"))
    await hold(office, "quarantine")
    await office.refill()
    assert await office.tasks() == []
    await hold(office, "alarm")
    assert (await office.claim(BEN))["asks"] == "adjudication"


async def test_a_share_of_decided_pairs_is_judged_once_more(office: Office) -> None:
    office.settings = office.settings.model_copy(update={"audit_share": 0.5})
    for number in range(24):
        asked = f"Is {number} safe?"
        await office.vote(ANNA, await office.complete("A", asked), await office.complete("B", asked))
    await office.refill()
    tasks = await office.tasks()
    assert {task.purpose for task in tasks} == {AUDIT}
    assert 4 <= len(tasks) <= 20
    await office.refill()
    assert len(await office.tasks()) == len(tasks)


async def test_the_order_is_contested_then_margin_then_both_bad_then_review_alarm_comparison_audit(
    office: Office,
) -> None:
    order = [("audit", 6), ("comparison", 5), ("alarm", 4), ("review", 3), ("both_bad", 2), ("contested", 0)]
    for purpose, tier in order:
        await office.comparison(f"good {purpose}", f"bad {purpose}", purpose=purpose, tier=tier)
    await office.comparison("good sure", "bad sure", margin=-0.9)
    await office.comparison("good unsure", "bad unsure", margin=-0.2)
    await office.comparison("good agreed", "bad agreed", margin=2.0, place=1.0)
    seen = []
    for _ in range(9):
        task = await office.claim(ANNA)
        seen.append(task["left"]["text"].split()[1])
        await office.submit(ANNA, task, "skip")
    assert seen == [
        "contested", "sure", "unsure", "both_bad", "review", "alarm", "comparison", "agreed", "audit",
    ]  # fmt: skip


async def test_among_contested_items_the_more_divided_comes_first(office: Office) -> None:
    await office.comparison("A", "B", purpose=CONTESTED, tier=0, place=-0.97)
    await office.comparison("C", "D", purpose=CONTESTED, tier=0, place=-1.0)
    assert (await office.claim(ANNA))["left"]["text"] in ("C", "D")


async def test_gold_looks_like_any_task_scores_the_rater_and_makes_no_vote(office: Office) -> None:
    office.settings = office.settings.model_copy(update={"gold_share": 0.5})
    office.chance = random.Random(4)
    for number in range(3):
        await office.gold(await office.complete(f"right {number}"), await office.complete(f"wrong {number}"))
    await office.comparison("plain", "other")
    keys = set()
    for _ in range(12):
        try:
            task = await office.claim(ANNA)
        except QueueEmpty:
            continue
        keys.add(tuple(sorted(task)))
        texts = {task["left"]["text"], task["right"]["text"]}
        await office.choose(ANNA, task, next((text for text in texts if text.startswith("wrong 0")), min(texts)))
    async with office.database.read() as session:
        scores = await gold_scores(session, "proj_1")
    assert scores == {own_rater(ANNA, office.secrets).id_hash: GoldScore(right=2, given=3)}
    assert scores[own_rater(ANNA, office.secrets).id_hash].share == pytest.approx(2 / 3)
    assert len(keys) == 1
    assert len(await office.votes()) == 1  # that of the plain comparison


async def test_a_repeat_swaps_the_sides_and_tells_whether_the_rater_is_steady(office: Office) -> None:
    office.settings = office.settings.model_copy(update={"repeat_share": 0.5})
    office.chance = random.Random(2)
    left: dict[str, str] = {}
    swapped = 0
    for number in range(8):
        await office.comparison(f"good {number}", f"poor {number}")
    for _ in range(16):
        try:
            task = await office.claim(ANNA)
        except QueueEmpty:
            continue
        number = task["left"]["text"].split()[1]
        if number in left:
            swapped += left[number] != task["left"]["text"]
        left.setdefault(number, task["left"]["text"])
        await office.submit(ANNA, task, "left")
    repeats = [verdict for verdict in await office.verdicts() if verdict.purpose == "repeat"]
    assert repeats
    assert swapped == len(repeats)
    assert {verdict.consistent for verdict in repeats} == {False}  # whoever always says left contradicts herself
    assert len(await office.votes()) == 8


async def test_a_tasks_row_is_never_handed_to_whom_it_is_not_for(office: Office) -> None:
    await office.comparison("A", "B", purpose="gold", tier=-1, rater_hash=own_rater(ANNA, office.secrets).id_hash)
    with pytest.raises(QueueEmpty):
        await office.claim(BEN)
    async with office.database.write() as session:
        await session.execute(update(AnnotationTask).values(rater_hash=""))
    assert (await office.claim(BEN))["asks"] == "verdict"
