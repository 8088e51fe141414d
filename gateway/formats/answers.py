"""The row shapes that single answers come in: with a thumb for `kto`, without one for `sft`. Pure.

trl        `prompt`, `completion` (text or messages); with `label`, true for a thumb up
chat       `messages` that end with the answer, as OpenAI and ms-swift have them; with `label`, true for a thumb up

A rating of Open WebUI's is a thumb. Pairs do too: their chosen side is a good answer, their rejected side one with a
thumb down.
"""

from typing import Any, Literal

from gateway.contracts.message import Message
from gateway.formats import openwebui
from gateway.formats.fields import BadRow, Row, check_assistant, check_keys, messages, prompt_messages, reply
from gateway.formats.fields import tools as read_tools
from gateway.formats.fields import weight as read_weight
from gateway.formats.pairs import format_of, pairs_of
from gateway.formats.record import RowAnswer, RowPair

_TRL, _CHAT, _LABEL = frozenset({"prompt", "completion"}), frozenset({"messages"}), "label"


def thumbs_of(row: Row) -> list[RowAnswer]:
    """The answer with its thumb; of a pair both sides. Raises `BadRow`."""
    format_ = format_of(row)
    if format_ == "openwebui":
        return openwebui.answers_of(row)
    if format_ is not None:
        (pair,) = pairs_of(row)
        return [_side(pair, is_desirable=True), _side(pair, is_desirable=False)]
    if _LABEL not in row:
        raise BadRow("there is no thumb: give label true or false, or take method sft, which learns from good answers")
    return [_answer(row)]


def demonstrations_of(row: Row) -> list[RowAnswer]:
    """The answer to learn from; of a pair the chosen side. One with a thumb down says so itself. Raises `BadRow`."""
    format_ = format_of(row)
    if format_ == "openwebui":
        return openwebui.answers_of(row)
    if format_ is not None:
        return [_side(pair, is_desirable=True) for pair in pairs_of(row)]
    return [_answer(row)]


def is_answer(row: Row) -> bool:
    """Whether the row has the keys of a single answer, right or wrong."""
    return format_of(row) is None and (row.keys() >= _TRL or row.keys() >= _CHAT)


def _answer(row: Row) -> RowAnswer:
    required, (prompt, completion) = _read(row)
    check_keys(row, required | {_LABEL})
    check_assistant(completion, "the answer")
    if not prompt:
        raise BadRow("the prompt is empty")
    return RowAnswer(
        prompt,
        completion,
        is_desirable=_label(row.get(_LABEL, True)),
        tools=read_tools(row.get("tools")),
        weight=read_weight(row.get("weight", 1.0)),
        id=None if row.get("id") is None else str(row["id"]),
    )


def _read(row: Row) -> tuple[frozenset[str], tuple[tuple[Message, ...], Message]]:
    if row.keys() >= _TRL:
        prompt = prompt_messages(row["prompt"])
        return _TRL, (prompt, reply(row["completion"], prompt, "completion"))
    if row.keys() >= _CHAT:
        *before, last = messages(row["messages"], "messages")
        return _CHAT, (tuple(before), last)
    raise BadRow(
        f"no known shape of an answer has the keys {', '.join(sorted(map(str, row))) or '(none)'}; "
        "the plainest is prompt, completion"
    )


def _label(value: Any) -> bool:
    if value in (True, False):  # 1 and 0 are equal to them
        return bool(value)
    raise BadRow(f"label must be true for a thumb up or false for one down, found {value!r}")


def _side(pair: RowPair, is_desirable: bool) -> RowAnswer:
    message = pair.chosen if is_desirable else pair.rejected
    side: Literal["chosen", "rejected"] = "chosen" if is_desirable else "rejected"
    return RowAnswer(pair.prompt, message, is_desirable, pair.tools, pair.weight, pair.id, side)
