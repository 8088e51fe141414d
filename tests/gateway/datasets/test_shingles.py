"""When two prompts nearly say the same, in English and in Chinese."""

import pytest

from gateway.contracts.message import Message
from gateway.datasets.shingles import are_near, overlap, prompt_text, shingles, tokens


def test_words_are_counted_without_case_and_punctuation_and_chinese_by_the_character() -> None:
    assert tokens("Don't  STOP, now!") == ["don", "t", "stop", "now"]
    assert tokens("用GPU训练模型。") == ["用", "gpu", "训", "练", "模", "型"]
    assert tokens("ＡＢＣ") == ["abc"]  # full width


def test_a_text_shorter_than_the_window_is_one_shingle() -> None:
    assert shingles("one two three") == {"one two three"}
    assert shingles("one two three four five six") == {"one two three four five", "two three four five six"}
    assert shingles("今天天气好吗") == {"今 天 天 气 好", "天 天 气 好 吗"}
    assert shingles("") == {""}


def test_the_overlap_is_what_is_shared_by_what_there_is() -> None:
    assert overlap({"a", "b", "c"}, {"b", "c", "d"}) == 0.5
    assert overlap({"a"}, {"a"}) == 1.0


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("Why is the sky blue?", "why is the sky BLUE", True),
        ("Why is the sky blue?", "Why is the sea blue?", False),
        # 15 words have 11 shingles; a word more at the end adds one: 11 of 12 are shared.
        ("a b c d e f g h i j k l m n o", "a b c d e f g h i j k l m n o p", True),
        # another last word: 10 are shared, of 12 in all (0.83); another middle one: 6 of 16.
        ("a b c d e f g h i j k l m n o", "a b c d e f g h i j k l m n x", True),
        ("a b c d e f g h i j k l m n o", "a b c d e f g x i j k l m n o", False),
        ("请问北京明天的天气怎么样", "请问北京明天的天气怎么样呢", True),
        ("请问北京明天的天气怎么样", "请问上海明天的天气怎么样", False),
    ],
)
def test_near_duplicates_share_four_fifths(one: str, other: str, near: bool) -> None:
    assert are_near(one, other) is near


def test_instructions_do_not_make_prompts_alike() -> None:
    system = Message(role="system", content="You are a helpful assistant of a bank. " * 20)
    one = (system, Message(role="user", content="Where is my card?"))
    other = (system, Message(role="user", content="Close my account."))
    assert prompt_text(one) == "Where is my card?"
    assert not are_near(prompt_text(one), prompt_text(other))
    assert prompt_text((system,)) == system.text


def test_ascii_is_taken_apart_like_any_other_text() -> None:
    text = "".join(f"Word{chr(code)}Next " for code in range(128))
    *said, end = tokens(text + "é")
    assert (tokens(text), end) == (said, "é")
    assert tokens("Don't PANIC: 42_000 (at 3.5%)!") == ["don", "t", "panic", "42_000", "at", "3", "5"]
