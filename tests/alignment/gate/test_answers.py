"""What answers look like from outside, counted by hand."""

import pytest

from alignment.gate.answers import Answer, distinct_share, has_ended, is_empty, is_looping, length_tokens, repetition


def answer(*tokens: int, text: str = "words", ended: bool = True) -> Answer:
    return Answer(text, tokens, ended)


@pytest.mark.parametrize(("text", "empty"), [("", 1.0), (" \n\t", 1.0), (".", 0.0)])
def test_white_space_is_no_answer(text: str, empty: float) -> None:
    assert is_empty(answer(7, text=text)) == empty


def test_length_and_end_are_told_as_numbers() -> None:
    assert (length_tokens(answer(1, 2, 3)), has_ended(answer(1)), has_ended(answer(1, ended=False))) == (3.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("tokens", "share"),
    [
        ((), 0.0),
        ((1, 1, 1), 0.0),  # too short for a run of four
        ((1, 2, 3, 4, 5), 0.0),
        ((1, 1, 1, 1, 1), 1 / 2),  # two runs, both 1111
        ((1, 2, 3, 4, 1, 2, 3, 4), 1 / 5),  # 1234 2341 3412 4123 1234
        ((9,) * 13, 9 / 10),
    ],
)
def test_repetition_is_the_share_of_runs_that_stood_there_before(tokens: tuple[int, ...], share: float) -> None:
    assert repetition(answer(*tokens)) == pytest.approx(share)


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [((), 0.0), ((1, 2, 3, 4) * 3, 0.0), ((1, 2, 3, 4) * 4, 1.0), ((5,) * 6, 0.0), ((5,) * 7, 1.0)],
)
def test_a_run_that_occurs_four_times_is_a_loop(tokens: tuple[int, ...], loops: float) -> None:
    assert is_looping(answer(*tokens)) == loops


def test_equal_answers_to_different_prompts_count_once() -> None:
    assert (
        distinct_share([answer(text="I see."), answer(text="I see. "), answer(text="No."), answer(text="Yes.")]) == 0.75
    )
