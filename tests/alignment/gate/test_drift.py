"""Which answers are changed, counted by hand, and which tokens the distance is measured on."""

from alignment.gate.answers import Answer
from alignment.gate.comparison import Sides
from alignment.gate.drift import answered_rows, changed_shares


def answers(*texts: str) -> list[Answer]:
    return [Answer(text, tuple(map(ord, text)), ended=True) for text in texts]


def test_changed_answers_are_counted_against_incumbent_and_base() -> None:
    sides = Sides(answers("a", "b", "c", "d"), base=answers("a", "x", "y", "z"), incumbent=answers("a", "b", "c", "z"))
    assert changed_shares(sides) == {"answers_changed_incumbent": 0.25, "answers_changed_base": 0.75}


def test_without_an_incumbent_the_base_stands_in() -> None:
    sides = Sides(answers("a", "b"), base=answers("a", "x"))
    assert changed_shares(sides) == {"answers_changed_incumbent": 0.5, "answers_changed_base": 0.5}


def test_an_answer_counts_with_its_end_and_one_without_a_token_not_at_all() -> None:
    written = [Answer("ab", (5, 6), ended=True), Answer("c", (7,), ended=False), Answer("", (), ended=False)]
    rows = answered_rows([[1], [2], [3]], written, end_id=9)
    assert [(row.prompt, row.completion) for row in rows] == [([1], [5, 6, 9]), ([2], [7])]
