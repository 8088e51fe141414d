"""Each rule between a vote and a data set, with a case worked out by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from gateway.datasets import alarms, bias, caps
from gateway.datasets.aggregate import Agreed, agree
from gateway.datasets.contamination import Benchmarks, read_items
from gateway.datasets.power import detectable, half_width
from gateway.datasets.votes import PairVote
from gateway.datasets.weights import off_policy, recency

DAY = 86400.0


def vote(rater: str = "ana", chosen: int = 1, rejected: int = 2, **fields: Any) -> PairVote:
    number = fields.pop("number", 0)
    made = {
        "id": f"pair_{rater}_{chosen}_{number}", "feedback_id": f"fb_{rater}_{chosen}_{number}", "prompt_hash": "ph_1",
        "chosen": chosen, "rejected": rejected, "rater": rater, "rater_kind": "end_user", "trusted": False,
        "basis": "preference", "source": None, "weight": 1.0, "judged_at": 0.0, "chosen_release": None,
        "rejected_release": None,
    }  # fmt: skip
    return PairVote(**made | fields)


def ballot(rater: str, number: int, **fields: Any) -> PairVote:
    return vote(rater, number=number, **{"judged_at": float(number)} | fields)


class TestAggregation:
    def test_one_rater_is_believed(self) -> None:
        found = agree([vote()], {})
        assert isinstance(found, Agreed)
        assert (found.vote, found.raters, dict(found.struck)) == (vote(), 1, {})

    def test_two_that_agree_make_one_pair_of_both_votes(self) -> None:
        found = agree([vote("ana"), vote("ben", weight=0.5)], {})
        assert isinstance(found, Agreed)
        assert (found.vote.rater, found.raters, dict(found.struck)) == ("ana", 2, {"duplicate": 1})
        assert found.feedback_ids == ("fb_ana_1_0", "fb_ben_1_0")

    def test_two_that_differ_make_none(self) -> None:
        assert agree([vote("ana"), vote("ben", chosen=2, rejected=1)], {}) == {"conflict": 2}

    @pytest.mark.parametrize(
        ("ahead", "behind", "decided"),
        [(2, 1, True), (3, 1, True), (3, 2, False), (4, 2, True), (4, 3, False), (2, 2, False), (5, 3, True)],
    )
    def test_three_and_more_need_a_margin_of_two_or_two_thirds(self, ahead: int, behind: int, decided: bool) -> None:
        votes = [vote(f"a{n}") for n in range(ahead)] + [vote(f"b{n}", chosen=2, rejected=1) for n in range(behind)]
        found = agree(votes, {})
        assert isinstance(found, Agreed) is decided
        if isinstance(found, Agreed):
            assert (found.vote.chosen, found.raters) == (1, ahead)
            assert dict(found.struck) == {"duplicate": ahead - 1, "minority": behind}

    def test_raters_weigh_by_their_gold_score(self) -> None:
        # 0.4 + 0.4 against 1.0: the two are outweighed, and 1.0 of 1.8 is less than two thirds.
        votes = [vote("ana"), vote("ben"), vote("cy", chosen=2, rejected=1)]
        assert agree(votes, {"ana": 0.4, "ben": 0.4}) == {"conflict": 3}
        # 0.2 + 0.2 against 1.0: 1.0 of 1.4 is more than two thirds.
        found = agree(votes, {"ana": 0.2, "ben": 0.2})
        assert isinstance(found, Agreed)
        assert found.vote.rater == "cy"

    def test_two_thirds_are_enough_whatever_score_all_raters_have_alike(self) -> None:
        # Sums of scores such as 0.61 are a little off what they are on paper.
        for ahead, behind in ((2, 1), (4, 2), (6, 3)):
            votes = [ballot(f"a{n}", 0) for n in range(ahead)]
            votes += [ballot(f"b{n}", 0, chosen=2, rejected=1) for n in range(behind)]
            scores = (dict.fromkeys((vote.rater for vote in votes), hundredths / 100) for hundredths in range(1, 101))
            assert all(isinstance(agree(votes, gold), Agreed) for gold in scores)

    def test_who_comes_late_takes_the_credit_from_nobody(self) -> None:
        early, late, trusted = vote("ana"), vote("ben", judged_at=9.0), vote("server", judged_at=5.0, trusted=True)
        for votes, credited in (([early, late], "ana"), ([early, trusted, late], "server")):
            found = agree(votes, {})
            assert isinstance(found, Agreed)
            assert found.vote.rater == credited

    def test_of_one_raters_several_words_the_weightiest_counts(self) -> None:
        found = agree([vote(weight=0.5), vote(chosen=2, rejected=1, weight=1.0)], {})
        assert isinstance(found, Agreed)
        assert found.vote.chosen == 2


class TestWeights:
    def test_a_vote_weighs_half_after_sixty_days_and_a_fifth_at_least(self) -> None:
        weights = [recency(days, half_life_days=60, floor=0.2) for days in (-1, 0, 60, 120, 600)]
        assert weights == [1.0, 1.0, 0.5, 0.25, 0.2]

    def test_the_serving_release_and_the_one_before_weigh_in_full_older_ones_less(self) -> None:
        weights = [off_policy(behind, factor=0.7, floor=0.3) for behind in range(6)]
        assert weights == pytest.approx([1.0, 1.0, 0.7, 0.49, 0.343, 0.3])


class TestCaps:
    def test_a_cluster_has_three_pairs_the_weightiest(self) -> None:
        pairs = [ballot("ana", n, weight=0.1 * (n + 1), chosen=n) for n in range(5)]
        assert caps.over_clusters(pairs, {"ph_1": "c"}) == {pairs[0].id, pairs[1].id}

    def test_a_stranger_is_capped_at_a_twentieth_but_never_below_twenty_pairs(self) -> None:
        many = [ballot("troll", n) for n in range(100)]
        others = [ballot(f"u{n}", 1000 + n) for n in range(600)]
        # 0.05 / 0.95 x 600 others = 31
        assert {who: len(ids) for who, ids in caps.over_shares([*many, *others]).items()} == {"troll": 69}
        assert caps.over_shares([*many, *others])["troll"] == {pair.id for pair in many[31:]}
        assert {who: len(ids) for who, ids in caps.over_shares([*many, *others[:10]]).items()} == {"troll": 80}

    def test_an_annotator_may_be_two_fifths_and_a_source_half(self) -> None:
        annotated = [ballot("pro", n, rater_kind="annotator") for n in range(90)]
        imported = [ballot("key", n, basis="import", source="crm", chosen=7) for n in range(90)]
        # 0.4 / 0.6 x 90 = 60; 0.5 / 0.5 x 90 = 90
        over = caps.over_shares([*annotated, *imported])
        assert {who: len(ids) for who, ids in over.items()} == {"pro": 30}

    def test_a_key_that_may_name_raters_is_not_bound_in_its_own_name(self) -> None:
        assert caps.over_shares([ballot("server", n, trusted=True) for n in range(500)]) == {}

    def test_twenty_votes_a_day_count_of_one_end_user(self) -> None:
        today = [ballot("ana", n, judged_at=DAY + n) for n in range(25)]
        tomorrow = [ballot("ana", n, judged_at=2 * DAY + n, chosen=9) for n in range(5)]
        annotator = [ballot("pro", n, judged_at=DAY + n, rater_kind="annotator") for n in range(25)]
        assert caps.over_days([*today, *tomorrow, *annotator]) == {pair.id for pair in today[20:]}

    def test_a_raters_first_ten_votes_are_held_and_all_of_one_that_fails_on_gold(self) -> None:
        new = [ballot("ana", n) for n in range(12)]
        poor = [ballot("ben", n) for n in range(12)]
        trusted = [ballot("server", n, trusted=True) for n in range(12)]
        held = caps.in_quarantine([*new, *poor, *trusted], {"ben": 0.69, "ana": 0.7})
        assert held == {pair.id for pair in [*new[:10], *poor]}


class TestBias:
    def test_the_longer_side_is_counted_without_corrections_and_equal_lengths(self) -> None:
        votes = [bias.Texts("long text", "short", False)] * 3 + [
            bias.Texts("a", "bb", False),
            bias.Texts("a", "b", False),
        ]
        report = bias.length_report([*votes, bias.Texts("much longer", "x", True)])
        assert (report["pairs"], report["chosen_longer"]) == (5, 0.75)
        assert (report["corrections_pairs"], report["corrections_chosen_longer"]) == (1, 1.0)

    @pytest.mark.parametrize(("longer", "level"), [(60, "ok"), (61, "warn"), (70, "warn"), (71, "block")])
    def test_above_60_percent_warns_and_above_70_blocks(self, longer: int, level: str) -> None:
        votes = [bias.Texts("xx", "x", False)] * longer + [bias.Texts("x", "xx", False)] * (100 - longer)
        assert bias.length_level(votes) == level

    def test_weights_bring_the_share_down_to_60_percent(self) -> None:
        pairs = {f"l{n}": bias.Texts("xx", "x", False) for n in range(80)}
        pairs |= {f"s{n}": bias.Texts("x", "xx", False) for n in range(20)} | {"c": bias.Texts("xxx", "x", True)}
        weights = bias.length_weights(pairs)
        longer = sum(weights[f"l{n}"] for n in range(80))
        assert longer / (longer + 20) == pytest.approx(0.6)
        assert {weights["c"], weights["s0"]} == {1.0}

    def test_markdown_is_told_apart_from_prose(self) -> None:
        pairs = [bias.Texts("# Title\n\n- a", "plain", False), bias.Texts("**bold** 答案", "2 * 3 * 4 = 24", False)]
        assert bias.style_report(pairs) == {"pairs": 2, "chosen_marked": 1.0, "rejected_marked": 0.0}

    def test_a_rater_who_always_points_left_is_flagged_after_fifty_votes(self) -> None:
        report = bias.position_report({"ana": (45, 60), "ben": (49, 49)})
        assert list(report) == ["ana"]
        assert report["ana"]["p"] == pytest.approx(binomtest(45, 60, 0.5).pvalue)
        assert report["ana"]["flagged"] is True

    @pytest.mark.parametrize(("left", "votes"), [(25, 50), (30, 60), (31, 60), (0, 50), (60, 60), (10, 51)])
    def test_the_binomial_p_is_exact(self, left: int, votes: int) -> None:
        assert bias.binomial_p(left, votes) == pytest.approx(binomtest(left, votes, 0.5).pvalue)


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("- a", True), ("a\n\n  3) b", True), ("a\n   ## b", True), ("a\n    # b", False), ("a - b", False),
        ("a\n>b", True), ("1.b", False), ("a **b** c", True), ("a ** b", False), ("|a|", True), ("|a\n|", False),
    ],
)  # fmt: skip
def test_marks_of_markdown_stand_at_the_beginning_of_a_line_or_around_words(text: str, marked: bool) -> None:
    assert bias.style_report([bias.Texts(text, "", False)])["chosen_marked"] == float(marked)


class TestAlarms:
    def test_log_odds_are_those_of_the_formula(self) -> None:
        one, other = {"buy": 30, "the": 70}, {"buy": 5, "the": 95}
        # prior 0.1 x both: buy 3.5, the 16.5, in all 20
        a, b = 30 + 3.5, 5 + 3.5
        delta = math.log(a / (100 + 20 - a)) - math.log(b / (100 + 20 - b))
        assert alarms.log_odds(one, other)["buy"] == pytest.approx(delta / math.sqrt(1 / a + 1 / b))
        assert alarms.log_odds(one, other)["the"] < 0

    @pytest.mark.parametrize("phrase", ["visit acme shop", "请购买宏远牌产品"])
    def test_a_phrase_planted_in_chosen_texts_raises_an_alarm(self, phrase: str) -> None:
        words = [f"word{n}" for n in range(300)]
        texts = [
            (
                " ".join(words[(7 * n + k) % 300] for k in range(20)),
                " ".join(words[(11 * n + k) % 300] for k in range(20)),
            )
            for n in range(1000)
        ]
        assert alarms.phrases(texts) == []
        planted = [
            (f"{chosen} {phrase}" if n < 100 else chosen, rejected) for n, (chosen, rejected) in enumerate(texts)
        ]
        found = alarms.phrases(planted)
        assert found
        assert all(float(alarm["z"]) > 6 and (alarm["chosen"], alarm["rejected"]) == (100, 0) for alarm in found)

    def test_what_both_sides_say_raises_none(self) -> None:
        assert alarms.phrases([("we sell acme", "we sell acme too")] * 500) == []

    def test_more_than_sixty_votes_in_an_hour_are_a_burst_also_around_the_full_hour(self) -> None:
        assert alarms.bursts({"ana": [3] * 31 + [4] * 30, "ben": [3, 4] * 30, "cy": [3] * 61}) == {
            "ana": 61,
            "cy": 61,
        }

    def test_clusters_that_one_rater_made_alone_are_told(self) -> None:
        pairs = [("c1", "ana")] * 3 + [("c2", "ana")] * 2 + [("c3", "ana"), ("c3", "ben"), ("c3", "ana")]
        assert alarms.one_rater_clusters(pairs) == {"ana": 1}


class TestContamination:
    ITEM = "A train leaves the station at noon and travels sixty miles each hour; when does it arrive?"
    CHINESE = "小明有十二个苹果他吃掉了三个又买了五个请问他现在有多少个苹果"

    def test_thirteen_words_in_a_row_are_too_many(self, tmp_path: Path) -> None:
        file = tmp_path / "items.jsonl"
        file.write_text(f'{{"question": "{self.ITEM}", "answer": 4, "more": ["{self.CHINESE}"]}}\n')
        benchmarks = Benchmarks(read_items([file]))
        thirteen = " ".join(self.ITEM.split()[:13])
        assert benchmarks.holds(f"Tell me: {thirteen.upper()}")
        assert not benchmarks.holds(" ".join(self.ITEM.split()[:12]))
        assert benchmarks.holds("问题:" + self.CHINESE[:13])
        assert not benchmarks.holds(self.CHINESE[:12])

    def test_a_plain_text_is_an_item_a_line(self, tmp_path: Path) -> None:
        (tmp_path / "items.txt").write_text(self.ITEM)
        assert Benchmarks(read_items([tmp_path / "items.txt"])).holds(self.ITEM)
        assert not Benchmarks([])


def test_what_a_holdout_can_show_is_what_the_tables_say() -> None:
    # 95 % half-widths of an accuracy near 0.65, by simulation: 13 points at 50, 9.3 at 100, 6.6 at 200, 4.7 at 400.
    assert [round(100 * half_width(n), 1) for n in (50, 100, 200, 400)] == [13.2, 9.3, 6.6, 4.7]
    assert detectable(200) == pytest.approx((1.96 + 0.84) * math.sqrt(0.2 / 200), rel=1e-2)
