"""How large an edit is, and which edits are more than typos."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feedback.edits import LONGEST_COMPARED, edit_distance, is_typo, touches_fact

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
    assert not is_typo(a, b, below=0.02)


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


def test_a_short_edit_of_a_long_text_is_a_typo_unless_it_touches_a_fact() -> None:
    assert is_typo(LONG, LONG.replace("medicine", "medecine", 1), below=0.02)
    assert not is_typo(LONG, LONG.replace("is taken", "is not taken", 1), below=0.02)
    assert not is_typo(LONG, LONG.replace("medicine", "tonic", 1), below=0.02)  # 6 of 206 characters: more than 2 %
    assert not is_typo("short", "shirt", below=0.02)
