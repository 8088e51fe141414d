"""A recorded completion as OpenAI clients see stored ones."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway.contracts.message import Message

REASONING = ("reasoning", "reasoning_content")
"""Both names under which clients look for it."""
USAGE_FIELDS = ("prompt_tokens", "completion_tokens", "total_tokens")


class Recorded(Protocol):
    """The columns of a completion that are shown."""

    id: str
    release_id: str
    messages: list[Any]
    choices: list[Any]
    usage: dict[str, Any]
    created_at: float
    call_metadata: dict[str, Any]


def completion_view(row: Recorded, release_name: str, *, reasoning: bool) -> dict[str, Any]:
    """The completion as its client received it, with its metadata; `reasoning`: whether thoughts are shown."""
    return {
        "id": row.id,
        "object": "chat.completion",
        "created": int(row.created_at),
        "model": release_name,
        "system_fingerprint": row.release_id,
        "choices": [_choice(choice, reasoning) for choice in row.choices],
        "usage": row.usage | {name: int(row.usage.get(name) or 0) for name in USAGE_FIELDS},
        "metadata": row.call_metadata,
    }


def _choice(choice: Mapping[str, Any], reasoning: bool) -> dict[str, Any]:
    message = choice["message"]
    said = message.get("content") or (None if message.get("tool_calls") else "")
    shown = {"role": "assistant", "content": said, "refusal": None}
    if message.get("tool_calls"):
        shown["tool_calls"] = message["tool_calls"]
    if reasoning and message.get("reasoning"):
        shown |= dict.fromkeys(REASONING, message["reasoning"])
    # A text that the engine or the client broke off has no finish reason; the schema's word for a cut text is this.
    ended = choice["finish_reason"] or "length"
    return {"index": choice["index"], "message": shown, "logprobs": None, "finish_reason": ended}


def message_views(row: Recorded) -> list[dict[str, Any]]:
    """The messages of the prompt, each with an id."""
    return [_message(f"{row.id}-{number}", message) for number, message in enumerate(row.messages)]


def _message(message_id: str, stored: dict[str, Any]) -> dict[str, Any]:
    content = stored.get("content")
    parts = None if content is None or isinstance(content, str) else list(content)
    shown = {name: stored[name] for name in ("name", "tool_calls", "tool_call_id") if stored.get(name)}
    text = None if content is None else Message.model_validate(stored).text
    return {"id": message_id, "role": stored["role"], "content": text, "content_parts": parts, **shown}


def list_view(views: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page, as the openai SDK turns it."""
    return {
        "object": "list",
        "data": list(views),
        "first_id": views[0]["id"] if views else None,
        "last_id": views[-1]["id"] if views else None,
        "has_more": has_more,
    }
