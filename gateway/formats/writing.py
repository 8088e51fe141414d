"""Pairs as rows that other programs read: the inverse of `pairs.py`, which reads all of these back. Pure."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair
from gateway.formats.fields import Row

WritableFormat = Literal["openai", "trl", "ms-swift", "alignway"]
WRITABLE: tuple[WritableFormat, ...] = get_args(WritableFormat)


def row_of(pair: FeedbackPair, format_: WritableFormat) -> Row:
    """One row. All but `alignway` leave out what other programs have no place for: who judged, when, and why."""
    return _WRITERS[format_](pair)


def _alignway(pair: FeedbackPair) -> Row:
    return pair.model_dump(mode="json", exclude_none=True)


def _openai(pair: FeedbackPair) -> Row:
    tools: Row = {"tools": list(pair.tools)} if pair.tools else {}
    return {
        "input": {"messages": _messages(pair.prompt)} | tools,
        "preferred_output": _messages((pair.chosen.message,)),
        "non_preferred_output": _messages((pair.rejected.message,)),
    } | _beside(pair)


def _trl(pair: FeedbackPair) -> Row:
    tools: Row = {"tools": list(pair.tools)} if pair.tools else {}
    return {
        "prompt": _messages(pair.prompt),
        "chosen": _messages((pair.chosen.message,)),
        "rejected": _messages((pair.rejected.message,)),
    } | (tools | _beside(pair))


def _swift(pair: FeedbackPair) -> Row:
    """Tools are JSON text there, and a thought stands in the text of its answer."""
    prompt = _messages(pair.prompt, thought_in_text=True)
    chosen, rejected = _messages((pair.chosen.message, pair.rejected.message), thought_in_text=True)
    row: Row = {"messages": [*prompt, chosen]}
    if rejected.keys() == {"role", "content"} and isinstance(rejected["content"], str):
        row["rejected_response"] = rejected["content"]
    else:
        row["rejected_messages"] = [*prompt, rejected]
    tools: Row = {"tools": json.dumps(list(pair.tools), ensure_ascii=False)} if pair.tools else {}
    return row | tools | _beside(pair)


def _messages(messages: tuple[Message, ...], *, thought_in_text: bool = False) -> list[Row]:
    return [_message(message, thought_in_text) for message in messages]


def _message(message: Message, thought_in_text: bool) -> Row:
    row = message.model_dump(mode="json", exclude_none=True)
    if "reasoning" not in row:
        return row
    thought = row.pop("reasoning")
    if thought_in_text:
        return row | {"content": f"<think>\n{thought}\n</think>\n\n{message.text}"}
    return row | {"reasoning_content": thought}


def _beside(pair: FeedbackPair) -> Row:
    beside: Row = {"id": pair.id, "weight": pair.weight}
    if pair.source is not None:
        beside["source"] = pair.source
    if pair.licence is not None:
        beside["licence"] = pair.licence
    return beside


_WRITERS: Mapping[WritableFormat, Callable[[FeedbackPair], dict[str, Any]]] = {
    "openai": _openai,
    "trl": _trl,
    "ms-swift": _swift,
    "alignway": _alignway,
}
