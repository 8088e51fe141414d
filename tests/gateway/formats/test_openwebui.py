"""Ratings of Open WebUI: pairs where answers share the message they answer, thumbs everywhere."""

from typing import Any

import pytest

from gateway.formats.answers import demonstrations_of, thumbs_of
from gateway.formats.fields import BadRow
from gateway.formats.pairs import format_of, pairs_of
from tests.gateway.formats.shapes import rating

GOOD, BAD, THIRD = "大约两升,天热时更多。", "水是一种液体。", "多喝。"


def sides(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(pair.chosen.text, pair.rejected.text) for pair in pairs_of(row)]


def test_a_thumb_up_prefers_the_answer_to_its_sibling() -> None:
    row = rating()
    assert format_of(row) == "openwebui"
    (pair,) = pairs_of(row)
    assert [(message.role, message.text) for message in pair.prompt] == [
        ("system", "Be brief."),
        ("user", "我每天应该喝多少水?"),
    ]
    assert (pair.chosen.text, pair.rejected.text, pair.basis) == (GOOD, BAD, "import")
    assert pair.judged_at is not None
    assert pair.judged_at.timestamp() == 1795000003


def test_a_thumb_down_prefers_the_sibling() -> None:
    assert sides(rating("a2", -1)) == [(GOOD, BAD)]
    assert sides(rating("a2", "-1")) == [(GOOD, BAD)]


def test_each_sibling_makes_a_pair_unless_it_has_the_same_thumb() -> None:
    assert sides(rating(siblings=("a2", "a3"))) == [(GOOD, BAD), (GOOD, THIRD)]
    assert sides(rating(siblings=("a2", "a3"), a2=1)) == [(GOOD, THIRD)]
    assert sides(rating(siblings=("a2", "a3"), a2=-1)) == [(GOOD, BAD), (GOOD, THIRD)]


def test_an_answer_without_a_sibling_is_a_thumb_and_no_pair() -> None:
    row = rating(thumb=-1, siblings=())
    assert pairs_of(row) == []
    assert [(one.completion.text, one.is_desirable, one.id) for one in thumbs_of(row)] == [(GOOD, False, "feedback-a1")]
    assert [one.is_desirable for one in demonstrations_of(row)] == [False]


@pytest.mark.parametrize("thumb", [None, 0, "no"])
def test_a_thumb_that_was_taken_back_says_nothing(thumb: Any) -> None:
    assert pairs_of(rating(thumb=thumb)) == []
    assert thumbs_of(rating(thumb=thumb)) == []


def test_a_sibling_that_broke_off_or_says_the_same_makes_no_pair() -> None:
    broken, same = rating(), rating()
    broken["snapshot"]["chat"]["chat"]["history"]["messages"]["a2"]["error"] = {"content": "timeout"}
    same["snapshot"]["chat"]["chat"]["history"]["messages"]["a2"]["content"] = GOOD + "\n"
    assert (pairs_of(broken), pairs_of(same)) == ([], [])


def test_earlier_turns_are_part_of_the_prompt_and_thoughts_are_not() -> None:
    row = rating()
    messages = row["snapshot"]["chat"]["chat"]["history"]["messages"]
    thought = '<details type="reasoning" done="true" duration="2">\n<summary>Thought</summary>\n> hm\n</details>\n'
    messages["u0"] = {"id": "u0", "parentId": None, "childrenIds": ["a0"], "role": "user", "content": "你好"}
    messages["a0"] = {"id": "a0", "parentId": "u0", "childrenIds": ["u1"], "role": "assistant", "content": "您好!"}
    messages["u1"]["parentId"] = "a0"
    messages["a1"]["content"] = thought + GOOD
    (pair,) = pairs_of(row)
    assert [message.text for message in pair.prompt] == ["Be brief.", "你好", "您好!", "我每天应该喝多少水?"]
    assert pair.chosen.text == GOOD


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (lambda row: row["meta"].update(message_id="gone"), "invalid_value", "does not hold the rated message"),
        (lambda row: row.update(snapshot=None), "invalid_value", "holds no snapshot"),
        (lambda row: row.update(stranger=1), "unknown_parameter", "unknown key 'stranger'"),
        (
            lambda row: row["snapshot"]["chat"]["chat"]["history"]["messages"]["u1"].update(files=[{"type": "image"}]),
            "unsupported_content",
            "an image",
        ),
        (
            lambda row: row["snapshot"]["chat"]["chat"]["history"]["messages"]["a1"].update(
                content='<details type="tool_calls" done="true"></details>42'
            ),
            "unsupported_content",
            "called tools",
        ),
        (
            lambda row: row["snapshot"]["chat"]["chat"]["history"]["messages"]["u1"].update(parentId="a1"),
            "invalid_value",
            "in a circle",
        ),
    ],
)
def test_a_chat_that_does_not_tell_enough_is_refused(change: Any, code: str, reason: str) -> None:
    row = rating()
    change(row)
    with pytest.raises(BadRow) as caught:
        pairs_of(row)
    assert caught.value.code == code
    assert reason in caught.value.message
