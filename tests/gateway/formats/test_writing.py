"""What is written in any format is read back as the same pair."""

import json
from typing import Any

import pytest

from gateway.contracts.pair import FeedbackPair
from gateway.formats.pairs import format_of, pairs_of
from gateway.formats.writing import WritableFormat, row_of
from tests.gateway.formats.shapes import SHAPES

FORMATS: tuple[WritableFormat, ...] = ("openai", "trl", "ms-swift", "alignway")
TOOL = {"type": "function", "function": {"name": "查询", "parameters": {}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "查询", "arguments": "{}"}}


def pair(**changes: Any) -> FeedbackPair:
    return FeedbackPair.model_validate(SHAPES["alignway"][1] | changes)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "written",
    [
        pair(),
        pair(source="crm", licence="internal", weight=1.0),
        pair(tools=[TOOL], rejected={"message": {"role": "assistant", "tool_calls": [CALL]}, "origin": "model"}),
        pair(tools=[TOOL], chosen={"message": {"role": "assistant", "tool_calls": [CALL]}, "origin": "model"}),
        pair(
            chosen={"message": {"role": "assistant", "content": "两升", "reasoning": "想一想"}, "origin": "model"},
            rejected={"message": {"role": "assistant", "content": "一升", "reasoning": "hm"}, "origin": "model"},
        ),
    ],
    ids=["correction", "imported", "tool call rejected", "tool call chosen", "thoughts"],
)
def test_a_written_row_is_read_back_as_the_same_pair(written: FeedbackPair, format_: WritableFormat) -> None:
    row = json.loads(json.dumps(row_of(written, format_), ensure_ascii=False))
    assert format_of(row) == format_
    (read,) = pairs_of(row)
    assert (read.prompt, read.tools) == (written.prompt, written.tools)
    assert (read.chosen, read.rejected) == (written.chosen.message, written.rejected.message)
    assert (read.weight, read.source, read.licence) == (written.weight, written.source, written.licence)


def test_only_our_own_format_says_who_judged_and_why() -> None:
    assert {"rater", "judged_at", "basis"} <= row_of(pair(), "alignway").keys()
    for format_ in FORMATS[:3]:
        assert not {"rater", "judged_at", "basis", "project_id"} & row_of(pair(), format_).keys()
