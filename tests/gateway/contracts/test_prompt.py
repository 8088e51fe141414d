"""The hash of a prompt is that of its canonical JSON, however it is worked out: stored votes are found by it."""

import hashlib
import json
import unicodedata
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.contracts.message import Message
from gateway.contracts.prompt import prompt_hash

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool"])


def hash_of(messages: list[dict[str, Any]]) -> str:
    canonical = {"messages": messages, "tools": [], "response_format": {}}
    said = json.dumps(canonical, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return "ph_" + hashlib.sha256(said.encode()).hexdigest()[:32]


def test_the_hash_is_over_roles_and_texts_without_white_space_at_line_ends() -> None:
    messages = [
        Message(role="system", content='Be "kind".  \r\nAlways.\t\n\n'),
        Message(role="user", content="为什么?"),
    ]
    assert prompt_hash(messages) == hash_of(
        [{"role": "system", "content": 'Be "kind".\nAlways.'}, {"role": "user", "content": "为什么?"}]
    )


def test_names_calls_and_parts_of_messages_are_in_the_hash() -> None:
    named = {"role": "user", "content": "Go", "name": ""}
    assert prompt_hash([Message(role="user", content="Go", name="")]) == hash_of([named])
    assert prompt_hash([Message(role="assistant", content=None)]) == hash_of([{"role": "assistant"}])
    assert prompt_hash([Message(role="assistant", content="x", tool_calls=())]) == hash_of(
        [{"role": "assistant", "content": "x", "tool_calls": []}]
    )
    parts = ({"type": "text", "text": "Go "},)
    assert prompt_hash([Message(role="user", content=parts)]) == hash_of(
        [{"role": "user", "content": [{"type": "text", "text": "Go"}]}]
    )


@given(st.lists(st.tuples(ROLES, TEXT), max_size=3))
def test_plain_messages_hash_as_they_do_beside_others(said: list[tuple[Any, str]]) -> None:
    """An empty list of tools is no tools; a prompt with a response format goes the long way."""
    messages = [Message(role=role, content=text) for role, text in said]
    long_way = _with_format(messages)
    assert prompt_hash(messages, []) == prompt_hash(messages, None, {}) == prompt_hash(messages)
    assert _with_format([Message.model_validate(message.model_dump()) for message in messages]) == long_way
    normal = [{"role": role, "content": _normal(text)} for role, text in said]
    assert prompt_hash(messages) == hash_of(normal)


def _with_format(messages: list[Message]) -> str:
    return prompt_hash(messages, None, {"type": "text"})


def _normal(text: str) -> str:
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).rstrip()
