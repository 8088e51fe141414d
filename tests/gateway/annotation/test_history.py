"""What annotators see of their own work, and what operators see of all: consistency, agreement, gold."""

import pytest

from gateway.annotation.agreement_report import agreement_ballots, agreement_report, coded
from gateway.annotation.errors import GoldNotFound
from gateway.annotation.gold import GoldExists, list_gold, retire_gold
from gateway.annotation.history import VerdictNotFound, history
from gateway.annotation.items import item_of
from gateway.contracts.ids import FEEDBACK, mint
from gateway.feedback.bodies import ChoiceRef
from gateway.feedback.completions import PromptMismatch
from gateway.feedback.identity import own_rater
from gateway.storage.annotation_tables import AnnotationBallot
from tests.gateway.annotation.office import Office, annotator

ANNA, BEN = annotator("anna"), annotator("ben")


def ballot(item: str, rater: str, verdict: str) -> AnnotationBallot:
    return AnnotationBallot(
        feedback_id=mint(FEEDBACK), project_id="p", alias="a", item=item, rater_hash=rater, rater_kind="annotator",
        verdict=verdict, at=1.0,
    )  # fmt: skip


async def test_an_annotator_sees_only_his_or_her_own_verdicts_and_pages_through_them(office: Office) -> None:
    for number in range(3):
        await office.comparison(f"Yes {number}.", f"No {number}.", wanted=2)
    given = []
    for verdict in ("left", "tie", "skip"):
        given.append((await office.submit(ANNA, await office.claim(ANNA), verdict))["id"])
    await office.submit(BEN, await office.claim(BEN), "right")
    own = own_rater(ANNA, office.secrets).id_hash
    async with office.database.read() as session:
        first = await history(session, "proj_1", own, limit=2, after=None)
        second = await history(session, "proj_1", own, limit=2, after=first["last_id"])
        with pytest.raises(VerdictNotFound):
            await history(session, "proj_1", own_rater(BEN, office.secrets).id_hash, limit=2, after=first["last_id"])
    shown = first["data"] + second["data"]
    assert [verdict["id"] for verdict in shown] == given[::-1]
    assert [verdict["verdict"] for verdict in shown] == ["skip", "tie", "left"]
    assert (first["has_more"], second["has_more"]) == (True, False)


async def test_agreement_with_others_is_counted_whatever_side_each_of_them_saw(office: Office) -> None:
    for number in range(4):
        await office.comparison(f"Yes {number}.", f"No {number}.", wanted=2)
    for rater, minds in ((ANNA, "Yes Yes Yes Yes"), (BEN, "Yes Yes Yes No")):
        for mind in minds.split():
            task = await office.claim(rater)
            text = next(side["text"] for side in (task["left"], task["right"]) if side["text"].startswith(mind))
            await office.choose(rater, task, text)
    await office.refill()
    async with office.database.read() as session:
        seen = await history(session, "proj_1", own_rater(ANNA, office.secrets).id_hash, limit=1, after=None)
        ballots = await agreement_ballots(session, "assistant")
    assert seen["consistency"] == {"own_repeats": {"same": 0, "of": 0}, "with_others": {"agreed": 3, "of": 4}}
    report = agreement_report("assistant", ballots)
    assert (report["items"], report["raters"]) == (4, 2)
    assert report["raw_agreement"]["value"] == 0.75
    assert report["cohen_kappa"] == []  # fewer than 20 items in common


def test_a_report_compares_raters_with_twenty_items_in_common_and_warns_of_low_alpha() -> None:
    ballots = []
    for number in range(20):
        ballots += [
            ballot(f"i{number}", "r_1", "first" if number % 2 else "second"),
            ballot(f"i{number}", "r_2", "first"),
        ]
    report = agreement_report("a", coded(ballots))
    # half of the twenty agree; r_2 always says one thing, so chance alone gives one half: kappa 0
    assert report["cohen_kappa"][0]["raters"] == ["r_1", "r_2"]
    assert report["cohen_kappa"][0]["value"] == 0.0
    # n = 40, 30 and 10: o = 2 * 10, e = (1600 - 1000) / 39, alpha = 1 - 20 * 39 / 600
    assert report["krippendorff_alpha"]["value"] == pytest.approx(-0.3)
    assert report["krippendorff_alpha"]["low"] < -0.3 < report["krippendorff_alpha"]["high"]
    assert "guideline" in report["warning"]


def test_both_bad_prefers_none_so_it_counts_as_a_tie() -> None:
    assert coded([ballot("i", "r_1", "both_bad"), ballot("i", "r_2", "tie"), ballot("j", "r_1", "first")]) == {
        "i": {"r_1": "tie", "r_2": "tie"}
    }


def test_the_order_of_sides_is_that_of_a_hash_and_not_of_age() -> None:
    older_first = 0
    for number in range(200):
        older, newer = (ChoiceRef(completion_id=f"chatcmpl-{number:04}{age}") for age in "ab")
        item, sides = item_of(older, newer)
        assert item_of(newer, older) == (item, sides)
        older_first += sides[0] == older.model_dump()
    assert 70 <= older_first <= 130


async def test_gold_answers_one_prompt_once_and_can_be_retired(office: Office) -> None:
    right, wrong = await office.complete("right"), await office.complete("wrong")
    gold = await office.gold(right, wrong)
    assert gold["better"] == {"completion_id": right, "index": 0}
    with pytest.raises(GoldExists):
        await office.gold(wrong, right)
    with pytest.raises(PromptMismatch):
        await office.gold(right, await office.complete("other", prompt="Something else?"))
    async with office.database.write() as session:
        assert [one["id"] for one in (await list_gold(session, "proj_1"))["data"]] == [gold["id"]]
        with pytest.raises(GoldNotFound):
            await retire_gold(session, "proj_2", gold["id"], 1.0)
        await retire_gold(session, "proj_1", gold["id"], 1.0)
        assert (await list_gold(session, "proj_1"))["data"] == []
