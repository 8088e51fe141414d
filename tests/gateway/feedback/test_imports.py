"""Imported pairs: any shape is taken, a bad row is named by its line, and nothing is imported unless all are good."""

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.feedback.bodies import PairBatchBody, PairBody, parse_body
from gateway.feedback.imports import Imported, InvalidPairs, ReadRows, read_rows
from tests.gateway.formats.shapes import MEDICAL, SHAPES, rating

HEAD = {"type": "pair", "source": "crm", "licence": "internal"}


def row(preferred: str = "Hello.", non_preferred: str = "What?", **changes: Any) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": "Hi"}]},
        "preferred_output": [{"role": "assistant", "content": preferred}],
        "non_preferred_output": [{"role": "assistant", "content": non_preferred}],
    } | changes


def read_all(*rows: Any, **head: Any) -> ReadRows:
    body = parse_body(HEAD | head | {"pairs": list(rows)})
    assert isinstance(body, PairBatchBody)
    return read_rows(body)


def read(*rows: Any) -> tuple[Imported, ...]:
    return read_all(*rows).imported


CALLING = [{"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]}]

BAD = [
    (row("same", "same "), "identical_outputs"),
    (row("好。", "好。\n"), "identical_outputs"),
    (row(""), "empty_output"),
    (row(preferred_output=[{"role": "assistant", "content": "a"}] * 2), "multi_turn_output"),
    (row(preferred_output=[{"role": "user", "content": "a"}]), "output_not_by_assistant"),
    (row(preferred_output=CALLING), "tool_calls_without_tools"),
    (row(input={"messages": [{"role": "assistant", "content": "a"}]}), "prompt_ends_with_assistant"),
    (row(stranger="Hi"), "unknown_parameter"),
    (row(weight=11), "invalid_value"),
    (row("a\0b"), "invalid_value"),
    (row("\ud800"), "invalid_value"),
    (row(input={"messages": [{"role": "robot", "content": "a"}]}), "invalid_value"),
    ({"input": {"messages": [{"role": "user", "content": "Hi"}]}}, "unknown_format"),
]


@pytest.mark.parametrize(("bad", "code"), [*BAD, ("not an object", "invalid_value")])
def test_a_bad_row_is_named_by_line_and_code(bad: Any, code: str) -> None:
    with pytest.raises(InvalidPairs) as caught:
        read(row(), bad, row())
    assert caught.value.code == "invalid_pairs"
    assert [(detail["line"], detail["code"]) for detail in caught.value.details] == [(2, code)]
    assert f"line 2: {code}" in caught.value.message


def test_all_bad_rows_are_named_at_once() -> None:
    with pytest.raises(InvalidPairs, match=r"7 of 8 rows are invalid.*and 2 more") as caught:
        read(row(), *[row("same", "same")] * 7)
    assert [detail["line"] for detail in caught.value.details] == [2, 3, 4, 5, 6, 7, 8]


def test_bad_rows_are_left_out_on_request_and_told_of() -> None:
    found = read_all(row("same", "same"), row(), on_error="skip")
    assert [one.pair.chosen.text for one in found.imported] == ["Hello."]
    assert [(error.line, error.code) for error in found.errors] == [(1, "identical_outputs")]


@pytest.mark.parametrize(("bad", "code"), BAD)
def test_a_single_bad_pair_is_refused_with_the_same_code(bad: dict[str, Any], code: str) -> None:
    body = parse_body(HEAD | bad)
    assert isinstance(body, PairBody)
    with pytest.raises(InvalidRequest) as caught:
        read_rows(body)
    assert caught.value.code == code


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "alignway"])  # its `rater` is a field of bodies
def test_a_single_pair_may_have_any_shape(name: str) -> None:
    body = parse_body(SHAPES[name][1] | HEAD)
    assert isinstance(body, PairBody)
    (imported,) = read_rows(body).imported
    assert (imported.pair.chosen.text, imported.pair.rejected.text) == ("大约两升,天热时更多。", "水是一种液体。")


def test_a_batch_may_mix_shapes_unless_its_format_is_named() -> None:
    rows = [MEDICAL, row(), rating(), rating(siblings=())]
    assert len(read(*rows)) == 3
    with pytest.raises(InvalidPairs) as caught:
        read_all(*rows, format="trl")
    assert [(detail["line"], detail["code"]) for detail in caught.value.details] == [
        (2, "unknown_format"),
        (3, "unknown_format"),
        (4, "unknown_format"),
    ]


def test_a_batch_holds_at_most_a_hundred_rows() -> None:
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
    assert same.pair.external_id == "x"


def test_both_sides_say_that_they_were_imported_and_weigh_by_row_and_trust() -> None:
    [imported] = read(row(weight=0.5))
    candidate = imported.candidate(trust=0.5)
    assert (candidate.chosen.origin, candidate.rejected.origin, candidate.weight) == ("import", "import", 0.25)
    assert candidate.chosen.message.text == "Hello."
