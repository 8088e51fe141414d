"""Ratings out of Open WebUI's feedback export (its version 0.12): a JSON array with one rating each. Pure.

A rating holds the whole chat (`snapshot`), a tree of messages. Answers to one message are siblings; who rates one of
them rates it against the others, as Open WebUI's own leaderboard reads it: a thumb up prefers it to each sibling, a
thumb down each sibling to it. A sibling with the same thumb of its own is no better and no worse. An answer without a
sibling has a thumb only.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from gateway.contracts.message import Message
from gateway.formats.fields import BadRow, Row
from gateway.formats.record import RowAnswer, RowPair

KEYS = frozenset({"data", "meta", "snapshot"})
_ALL_KEYS = KEYS | {"id", "user_id", "version", "type", "created_at", "updated_at", "user"}
UNSUPPORTED = "unsupported_content"
_REASONING = re.compile(r'<details type="reasoning"[^>]*>.*?</details>\s*', re.DOTALL)
_WORKINGS = re.compile(r'<details type="(?:tool_calls|code_interpreter)"')

Node = Mapping[str, Any]


class Rated(NamedTuple):
    """The answer that was rated."""

    prompt: tuple[Message, ...]
    answer: Message
    is_up: bool
    siblings: tuple[tuple[str, Message, bool | None], ...]
    """The other answers to the same message: id, message, and the thumb it has of its own, if any."""


def pairs_of(row: Row) -> list[RowPair]:
    """The rated answer against each sibling; nothing where it has none. Raises `BadRow`."""
    rated = read_rating(row)
    if rated is None:
        return []
    pairs = []
    for _, other, thumb in rated.siblings:
        if thumb != rated.is_up and other.text.strip() != rated.answer.text.strip():
            chosen, rejected = (rated.answer, other) if rated.is_up else (other, rated.answer)
            pairs.append(RowPair(rated.prompt, chosen, rejected, judged_at=_judged_at(row)))
    return pairs


def answers_of(row: Row) -> list[RowAnswer]:
    """The rated answer with its thumb; nothing without one. Raises `BadRow`."""
    rated = read_rating(row)
    if rated is None:
        return []
    return [RowAnswer(rated.prompt, rated.answer, rated.is_up, id=str(row["id"]) if "id" in row else None)]


def read_rating(row: Row) -> Rated | None:
    """What was rated, and how; None where the thumb was taken back. Raises `BadRow` if the chat does not show it."""
    if strangers := sorted(row.keys() - _ALL_KEYS):
        raise BadRow(f"unknown key {strangers[0]!r} in a rating of Open WebUI", "unknown_parameter")
    is_up = _thumb(row["data"])
    if is_up is None:
        return None
    chat = _chat(row["snapshot"])
    nodes = _nodes(chat)
    message_id = str((row["meta"] or {}).get("message_id"))
    if message_id not in nodes or (parent := nodes[message_id].get("parentId")) not in nodes:
        raise BadRow(f"the snapshot of the chat does not hold the rated message {message_id!r} and what it answers")
    prompt = (*_system(chat), *_path(nodes, parent))
    others = [name for name in nodes[parent].get("childrenIds") or () if name != message_id and name in nodes]
    siblings = [
        (name, _answer(nodes[name]), _thumb(nodes[name].get("annotation"))) for name in others if _is_done(nodes[name])
    ]
    return Rated(prompt, _answer(nodes[message_id]), is_up, tuple(siblings))


def _thumb(data: Any) -> bool | None:
    rating = str((data or {}).get("rating")) if isinstance(data, dict) else ""
    return {"1": True, "-1": False}.get(rating)


def _chat(snapshot: Any) -> dict[str, Any]:
    try:
        return dict(snapshot["chat"]["chat"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadRow("the rating holds no snapshot of its chat; export it from Open WebUI with snapshots") from error


def _nodes(chat: Node) -> dict[str, Node]:
    history = chat.get("history")
    found = history.get("messages") if isinstance(history, dict) else None
    if not isinstance(found, dict):
        raise BadRow("the snapshot of the chat has no history.messages")
    return {name: node for name, node in found.items() if isinstance(node, dict)}


def _system(chat: Node) -> tuple[Message, ...]:
    parameters = chat.get("params")
    text = parameters.get("system") if isinstance(parameters, dict) else None
    return (Message(role="system", content=text),) if isinstance(text, str) and text.strip() else ()


def _path(nodes: Mapping[str, Node], last: Any) -> list[Message]:
    """The messages from the first to `last`. A chat that runs in a circle is refused."""
    path: list[Message] = []
    seen: set[Any] = set()
    while last is not None and last in nodes:
        if last in seen:
            raise BadRow("the messages of the chat answer each other in a circle")
        seen.add(last)
        node = nodes[last]
        path.append(_answer(node) if node.get("role") == "assistant" else _said(node))
        last = node.get("parentId")
    return path[::-1]


def _said(node: Node) -> Message:
    if node.get("role") not in ("user", "system"):
        raise BadRow(f"a message has the role {node.get('role')!r}")
    if any(isinstance(file, dict) and file.get("type") == "image" for file in node.get("files") or ()):
        raise BadRow("the chat holds an image, which the export leaves out", UNSUPPORTED)
    return Message(role=node["role"], content=_text(node))


def _answer(node: Node) -> Message:
    text = _text(node)
    if _WORKINGS.search(text):
        raise BadRow("an answer called tools, of which the export does not tell enough", UNSUPPORTED)
    return Message(role="assistant", content=_REASONING.sub("", text).strip())


def _text(node: Node) -> str:
    if not isinstance(text := node.get("content"), str):
        raise BadRow("a message of the chat has no text", UNSUPPORTED)
    return text


def _is_done(node: Node) -> bool:
    """Whether it is an answer that came to its end."""
    return node.get("role") == "assistant" and node.get("done") is not False and not node.get("error")


def _judged_at(row: Row) -> datetime | None:
    at = row.get("updated_at")
    return datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) and 0 < at < 2**33 else None
