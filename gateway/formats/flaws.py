"""The rules by which a pair says nothing or cannot be trained on, whoever made it. Pure: codes, and their words."""

from collections.abc import Mapping
from typing import Any

from gateway.contracts.message import Message
from gateway.contracts.prompt import normal_text
from gateway.formats.record import RowPair

IDENTICAL = "identical_outputs"
EMPTY = "empty_output"
EXPLANATIONS: Mapping[str, str] = {
    "prompt_ends_with_assistant": "the prompt ends with an assistant message; it must end with what is answered",
    "tool_calls_without_tools": "an output calls a tool, but no `tools` are declared",
    EMPTY: "one of the outputs is empty",
    IDENTICAL: "chosen and rejected are identical, so nothing is preferred",
}


def flaw_of_pair(pair: RowPair) -> str | None:
    """The code of the first rule that a pair from elsewhere breaks."""
    if pair.prompt[-1].role == "assistant":
        return "prompt_ends_with_assistant"
    if not pair.tools and (pair.chosen.tool_calls or pair.rejected.tool_calls):
        return "tool_calls_without_tools"
    return flaw_of_outputs(pair.chosen, pair.rejected)


def flaw_of_outputs(chosen: Message, rejected: Message) -> str | None:
    """The rule by which two outputs make no pair, whoever wrote them."""
    if _is_empty(chosen) or _is_empty(rejected):
        return EMPTY
    if normal_text(chosen.text) == normal_text(rejected.text) and _calls(chosen) == _calls(rejected):
        return IDENTICAL
    return None


def _is_empty(message: Message) -> bool:
    return not message.text.strip() and not message.tool_calls


def _calls(message: Message) -> list[Any]:
    """What tools were called with; the ids of calls differ always and mean nothing."""
    return [call.get("function", call) for call in message.tool_calls or ()]
