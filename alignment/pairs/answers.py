"""The row shapes that single answers come in: with a thumb for `kto`, without one for `sft`. Pure.

trl        `prompt`, `completion` (text or messages); with `label`, true for a thumb up
chat       `messages` that end with the answer, as OpenAI and ms-swift have them; with `label`, true for a thumb up

Pairs do too: their chosen side is a good answer, their rejected side one with a thumb down.
"""

from typing import Any

from alignment.pairs.fields import BadRow, Row, check_assistant, check_keys, messages, prompt_messages, reply
from alignment.pairs.fields import tools as read_tools
from alignment.pairs.fields import weight as read_weight
from alignment.pairs.formats import is_pair, pair_of
from alignment.pairs.pair import Answer, PreferencePair
from gateway.contracts.message import Message

_TRL, _CHAT, _LABEL = frozenset({"prompt", "completion"}), frozenset({"messages"}), "label"


def thumbs_of(row: Row, fallback_id: str) -> list[Answer]:
    """The answer with its thumb; of a pair both sides. Raises `BadRow`."""
    if is_pair(row):
        pair = pair_of(row, fallback_id)
        return [_side(pair, "chosen", is_desirable=True), _side(pair, "rejected", is_desirable=False)]
    if _LABEL not in row:
        raise BadRow("there is no thumb: give label true or false, or take method sft, which learns from good answers")
    return [_answer(row, fallback_id)]


def demonstrations_of(row: Row, fallback_id: str) -> list[Answer]:
    """The answer to learn from; of a pair the chosen side. One with a thumb down says so itself. Raises `BadRow`."""
    if is_pair(row):
        return [_side(pair_of(row, fallback_id), "chosen", is_desirable=True)]
    return [_answer(row, fallback_id)]


def is_answer(row: Row) -> bool:
    """Whether the row has the keys of a single answer, right or wrong."""
    return not is_pair(row) and (row.keys() >= _TRL or row.keys() >= _CHAT)


def _answer(row: Row, fallback_id: str) -> Answer:
    required, (prompt, completion) = _read(row)
    check_keys(row, required | {_LABEL})
    check_assistant(completion, "the answer")
    if not prompt:
        raise BadRow("the prompt is empty")
    return Answer(
        str(row.get("id", fallback_id)),
        prompt,
        completion,
        is_desirable=_label(row.get(_LABEL, True)),
        weight=read_weight(row.get("weight", 1.0)),
        tools=read_tools(row.get("tools")),
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


def _side(pair: PreferencePair, name: str, is_desirable: bool) -> Answer:
    message = pair.chosen if is_desirable else pair.rejected
    return Answer(f"{pair.id}:{name}", pair.prompt, message, is_desirable, pair.weight, pair.tools)
