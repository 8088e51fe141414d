"""Every accepted shape says the same; a row that says nothing clear is refused with a code."""

from typing import Any

import pytest

from gateway.formats.fields import BadRow
from gateway.formats.pairs import format_of, pairs_of
from tests.gateway.formats.shapes import BAD, GOOD, MEDICAL, PROMPT, SHAPES

CALL = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]}
TOOL = {"type": "function", "function": {"name": "f"}}
PLAIN = {"prompt": "a", "chosen": "b", "rejected": "c"}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_told_by_its_keys_and_says_the_same(name: str) -> None:
    format_, row = SHAPES[name]
    assert format_of(row) == format_
    (pair,) = pairs_of(row)
    assert [message.model_dump(exclude_none=True) for message in pair.prompt] == PROMPT
    assert (pair.chosen.text, pair.rejected.text) == ("大约两升,天热时更多。", "水是一种液体。")


def test_three_plain_strings_are_a_question_and_two_answers() -> None:
    (pair,) = pairs_of(MEDICAL)
    assert [(message.role, message.text) for message in pair.prompt] == [("user", MEDICAL["prompt"])]
    assert (pair.chosen.text, pair.rejected.text) == (MEDICAL["chosen"], MEDICAL["rejected"])


def test_our_own_row_keeps_what_it_follows_from() -> None:
    (pair,) = pairs_of(SHAPES["alignway"][1])
    assert (pair.basis, pair.fact, pair.weight, pair.origins) == ("correction", True, 0.5, ("human", "model"))
    assert pair.judged_at is not None
    assert pair.judged_at.isoformat() == "2026-11-23T12:00:00+00:00"


def test_a_row_says_where_it_comes_from_and_under_which_licence() -> None:
    (pair,) = pairs_of(PLAIN | {"source": "crm", "licence": "CC-BY-4.0", "external_id": "7", "weight": 2, "id": 3})
    assert (pair.source, pair.licence, pair.external_id, pair.weight, pair.id) == ("crm", "CC-BY-4.0", "7", 2.0, "3")


def test_tools_may_be_the_json_text_that_ms_swift_keeps() -> None:
    row = {"tools": '[{"type": "function", "function": {"name": "f"}}]', "messages": [*PROMPT, CALL]}
    (pair,) = pairs_of(row | {"rejected_response": "no"})
    assert (pair.tools, pair.chosen.tool_calls) == ((TOOL,), tuple(CALL["tool_calls"]))


@pytest.mark.parametrize(
    ("row", "code", "reason"),
    [
        (PLAIN | {"chosen": "c \n"}, "identical_outputs", "identical"),
        (PLAIN | {"prompt": "问", "chosen": "好。 ", "rejected": "好。"}, "identical_outputs", "identical"),
        (PLAIN | {"chosen": " "}, "empty_output", "empty"),
        (PLAIN | {"score": 3}, "unknown_parameter", "unknown key 'score'"),
        (PLAIN | {"source": 3}, "invalid_value", "source must be text"),
        (PLAIN | {"weight": -1}, "invalid_value", "weight must be a number above 0"),
        (PLAIN | {"chosen": [CALL]}, "tool_calls_without_tools", "no `tools` are declared"),
        (PLAIN | {"chosen": [GOOD, GOOD]}, "multi_turn_output", "do not begin with the prompt"),
        (PLAIN | {"chosen": [PROMPT[1]]}, "output_not_by_assistant", "found role 'user'"),
        ({"chosen": [*PROMPT, GOOD], "rejected": [PROMPT[1], GOOD, BAD]}, "multi_turn_output", "rejected holds 3"),
        ({"prompt": [*PROMPT, GOOD], "chosen": "a", "rejected": "b"}, "prompt_ends_with_assistant", "must end with"),
        ({"prompt": "a", "chosen": "b"}, "unknown_format", "the plainest is prompt, chosen, rejected"),
        ({"messages": [GOOD], "rejected_response": "b"}, "invalid_value", "the prompt is empty"),
        ({**SHAPES["openai"][1], "preferred_output": [GOOD, GOOD]}, "multi_turn_output", "exactly one message"),
        ({**SHAPES["openai"][1], "input": {"messages": PROMPT, "n": 1}}, "unknown_parameter", "'n' in input"),
        ({**SHAPES["alignway"][1], "weight": 0}, "invalid_value", "weight"),
        ({**SHAPES["alignway"][1], "rejected": {"message": GOOD, "origin": "model"}}, "identical_outputs", "identical"),
    ],
)
def test_a_row_that_says_nothing_clear_is_refused_with_a_code(row: dict[str, Any], code: str, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        pairs_of(row)
    assert caught.value.code == code
    assert reason in caught.value.message


def test_a_format_that_is_named_refuses_rows_of_another() -> None:
    assert len(pairs_of(MEDICAL, "trl")) == 1
    with pytest.raises(BadRow, match="not in the format openai") as caught:
        pairs_of(MEDICAL, "openai")
    assert caught.value.code == "unknown_format"
