"""How large an edit is, and which edits are more than typos."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feedback.edits import LONGEST_COMPARED, edit_distance, edit_share, touches_fact

LONG = "The medicine helps most people and is taken in the morning together with a large glass of plain water. " * 2


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("same", "same", 0),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("intention", "execution", 5),
        ("你好吗", "你好", 1),
    ],
)
def test_distance_counts_insertions_deletions_and_replacements(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == distance


@given(st.text(alphabet="abc ", max_size=20), st.text(alphabet="abc ", max_size=20))
def test_distance_equals_that_of_the_plain_table(a: str, b: str) -> None:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    assert edit_distance(a, b) == row[-1]


def test_an_edit_spread_over_too_much_text_is_not_measured_but_counted_as_large() -> None:
    a, b = "x" + "a" * LONGEST_COMPARED + "x", "y" + "a" * LONGEST_COMPARED + "y"
    assert edit_distance(a, b) == LONGEST_COMPARED + 2
    assert edit_share(a, b) == 1.0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("take 5 mg", "take 50 mg"),
        ("take 5 mg", "take 5 g"),
        ("it is safe", "it is not safe"),
        ("it does rain", "it doesn't rain"),
        ("costs €5", "costs $5"),
        ("at 3.5 bar", "at 3,5 bar"),
        ("take two pills", "take three pills"),
        ("可以喝酒", "不可以喝酒"),
    ],
)
def test_numbers_units_and_negations_are_facts(before: str, after: str) -> None:
    assert touches_fact(before, after)
    assert touches_fact(after, before)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("take 5 mg dayly", "take 5 mg daily"),
        ("take 5mg", "take 5 mg"),
        ("It is  so", "it is so"),
        ("a cat", "the cat"),
    ],
)
def test_spelling_spacing_and_case_are_no_facts(before: str, after: str) -> None:
    assert not touches_fact(before, after)


def test_the_share_of_an_edit_counts_characters_of_the_longer_text() -> None:
    assert edit_share(LONG, LONG.replace("medicine", "medecine", 1)) == pytest.approx(1 / 205)
    assert edit_share(LONG, LONG.replace("medicine", "tonic", 1)) == pytest.approx(6 / 205)
    assert edit_share("每天吃药", "每天服药") == 0.25
    assert (edit_share("", ""), edit_share("a", "b")) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("每次五片", "每次三片"),
        ("每次5毫克", "每次5微克"),
        ("没有副作用", "有副作用"),
        ("此药无毒", "此药有毒"),
        ("长五公里", "长五英里"),
        ("二〇二四年", "二〇二五年"),
        ("孕妇禁用", "孕妇可用"),
        ("每天一次", "每周一次"),
    ],
)
def test_chinese_numerals_units_and_negations_are_facts(before: str, after: str) -> None:
    assert touches_fact(before, after)
    assert touches_fact(after, before)


def test_chinese_wording_alone_is_no_fact() -> None:
    assert not touches_fact("请每次饭后服用", "请每次饭后吃药")


def test_a_listed_name_is_a_fact_in_either_language() -> None:
    assert touches_fact("Take aspirin.", "Take paracetamol.", ["Aspirin"])
    assert touches_fact("请服用阿司匹林。", "请服用布洛芬。", ["布洛芬"])
    assert not touches_fact("Take aspirin.", "Please take ASPIRIN.", ["Aspirin"])
    assert not touches_fact("Take aspirin.", "Take paracetamol.")
