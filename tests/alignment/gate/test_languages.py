"""Chinese is measured where people write it, or where it is asked for."""

import pytest

from alignment.gate.languages import chinese_share, languages_of


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        ([], 0.0),
        (["  \n"], 0.0),
        (["abc", "d"], 0.0),
        (["你好ab"], 0.5),
        (["你 好 a", "b c d"], 1 / 3),
        (["日本の"], 2 / 3),
    ],
)
def test_share_counts_characters_but_not_white_space(texts: list[str], share: float) -> None:
    assert chinese_share(texts) == pytest.approx(share)


def test_a_tenth_of_chinese_is_enough() -> None:
    assert languages_of(["你" + "a" * 9]) == ("en", "zh")
    assert languages_of(["你" + "a" * 10]) == ("en",)


def test_english_is_always_measured_and_chinese_when_asked_for() -> None:
    assert languages_of(["abc"], ["zh"]) == ("en", "zh")
    assert languages_of(["abc"], ["en"]) == ("en",)
    assert languages_of([]) == ("en",)
