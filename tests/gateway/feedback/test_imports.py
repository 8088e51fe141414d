"""Imported pairs: each bad row is named by its line, and nothing is imported unless all are good."""

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.feedback.bodies import PairBatchBody, PairBody, parse_body
from gateway.feedback.imports import Imported, InvalidPairs, read_rows

HEAD = {"type": "pair", "source": "crm", "licence": "internal"}


def row(preferred: str = "Hello.", non_preferred: str = "What?", **changes: Any) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": "Hi"}]},
        "preferred_output": [{"role": "assistant", "content": preferred}],
        "non_preferred_output": [{"role": "assistant", "content": non_preferred}],
    } | changes


def read(*rows: Any) -> list[Imported]:
    body = parse_body(HEAD | {"pairs": list(rows)})
    assert isinstance(body, PairBatchBody)
    return read_rows(body, weight=1.0)


CALLING = [{"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]}]

BAD = [
    (row("same", "same "), "identical_outputs"),
    (row(""), "empty_output"),
    (row(preferred_output=[{"role": "assistant", "content": "a"}] * 2), "multi_turn_output"),
    (row(preferred_output=[{"role": "user", "content": "a"}]), "output_not_by_assistant"),
    (row(preferred_output=CALLING), "tool_calls_without_tools"),
    (row(input={"messages": [{"role": "assistant", "content": "a"}]}), "prompt_ends_with_assistant"),
    (row(prompt="Hi"), "unknown_parameter"),
    ({"input": {"messages": [{"role": "user", "content": "Hi"}]}}, "missing_required_parameter"),
    (row(input={"messages": [{"role": "robot", "content": "a"}]}), "invalid_value"),
    ("not an object", "invalid_value"),
]


@pytest.mark.parametrize(("bad", "code"), BAD, ids=[code for _, code in BAD])
def test_a_bad_row_is_named_by_line_and_code(bad: Any, code: str) -> None:
    with pytest.raises(InvalidPairs) as caught:
        read(row(), bad, row())
    assert caught.value.code == "invalid_pairs"
    assert [(detail["line"], detail["code"]) for detail in caught.value.details] == [(2, code)]
    assert f"line 2: {code}" in caught.value.message


def test_all_bad_rows_are_named_at_once() -> None:
    with pytest.raises(InvalidPairs, match=r"7 of 8 pairs are invalid.*and 2 more") as caught:
        read(row(), *[row("same", "same")] * 7)
    assert [detail["line"] for detail in caught.value.details] == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(("bad", "code"), BAD[:6], ids=[code for _, code in BAD[:6]])
def test_a_single_bad_pair_is_refused_with_the_same_code(bad: dict[str, Any], code: str) -> None:
    body = parse_body(HEAD | bad)
    assert isinstance(body, PairBody)
    with pytest.raises(InvalidRequest) as caught:
        read_rows(body, weight=1.0)
    assert caught.value.code == code


def test_a_batch_holds_at_most_a_hundred_pairs() -> None:
    assert len(read(*[row()] * 100)) == 100
    with pytest.raises(InvalidRequest, match="100"):
        read(*[row()] * 101)


def test_rows_that_say_the_same_have_the_same_content_hash() -> None:
    one, same, swapped, other = read(
        row("Hello."),
        row("Hello. \r\n", external_id="x"),
        row("What?", "Hello."),
        row(input={"messages": [{"role": "user", "content": "Ho"}]}),
    )
    assert one.content_hash == same.content_hash
    assert len({one.content_hash, swapped.content_hash, other.content_hash}) == 3


def test_both_sides_say_that_they_were_imported() -> None:
    [imported] = read(row())
    assert (imported.candidate.chosen.origin, imported.candidate.rejected.origin) == ("import", "import")
    assert imported.candidate.chosen.message.text == "Hello."
