"""From what an engine says to what an OpenAI client may see, and to what is recorded.

Engines add fields of their own (`prompt_logprobs`, `stop_reason`, `token_ids`, ...); only OpenAI's leave here.
"""

from dataclasses import dataclass, field
from typing import Any

from gateway.errors import UpstreamError

USAGE_FIELDS = ("prompt_tokens", "completion_tokens", "total_tokens")
MESSAGE_FIELDS = ("reasoning", "reasoning_content", "tool_calls")


@dataclass(frozen=True)
class Signature:
    """Who answers: what stands at the head of the answer and of each of its chunks."""

    completion_id: str
    created: int
    model: str
    """Name of the release."""
    release_id: str

    def head(self, kind: str) -> dict[str, Any]:
        """The fields that open a reply or a chunk."""
        return {
            "id": self.completion_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.release_id,
        }


@dataclass
class Choice:
    """One choice as it grows, chunk by chunk."""

    index: int
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    finish_reason: str | None = None

    def record(self) -> dict[str, Any]:
        """The choice as it is stored."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.content)}
        if self.reasoning:
            message["reasoning"] = "".join(self.reasoning)
        if self.tool_calls:
            message["tool_calls"] = [self.tool_calls[index] for index in sorted(self.tool_calls)]
        return {"index": self.index, "message": message, "finish_reason": self.finish_reason}


class Answer:
    """Everything one completion has said so far, over all its choices."""

    def __init__(self, signature: Signature, expected_choices: int = 1) -> None:
        self.signature = signature
        self.usage = clean_usage(None)
        self._expected_choices = expected_choices
        self._choices: dict[int, Choice] = {}

    @property
    def finished(self) -> bool:
        """Whether every choice that was asked for came to its end."""
        ended = [choice.finish_reason is not None for choice in self._choices.values()]
        return len(ended) >= self._expected_choices and all(ended)

    def choices(self) -> list[dict[str, Any]]:
        """The choices as they are stored, in order."""
        return [self._choices[index].record() for index in sorted(self._choices)]

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        """Take in an engine's whole reply; return the client's."""
        choices = []
        for raw in _list(reply, "choices"):
            message = raw.get("message") or {}
            self._take(raw, message)
            shown = {"role": "assistant", "content": message.get("content"), "refusal": None}
            shown |= {name: message[name] for name in MESSAGE_FIELDS if message.get(name)}
            choices.append(_choice(raw, "message", shown))
        self.usage = clean_usage(reply.get("usage"))
        return self.signature.head("chat.completion") | {"choices": choices, "usage": self.usage}

    def chunk(self, raw_chunk: dict[str, Any], with_usage: bool) -> dict[str, Any] | None:
        """Take in an engine's chunk; return the client's, or None where it has nothing for the client."""
        if raw_chunk.get("usage"):
            self.usage = clean_usage(raw_chunk["usage"])
        raw_choices = _list(raw_chunk, "choices")
        if not raw_choices:
            return None
        choices = []
        for raw in raw_choices:
            delta = raw.get("delta") or {}
            self._take(raw, delta)
            shown = {name: delta[name] for name in ("role", *MESSAGE_FIELDS) if delta.get(name)}
            if delta.get("content") is not None:
                shown["content"] = delta["content"]
            choices.append(_choice(raw, "delta", shown))
        chunk = self.signature.head("chat.completion.chunk") | {"choices": choices}
        return chunk | {"usage": None} if with_usage else chunk

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk of a stream whose client asked for usage."""
        return self.signature.head("chat.completion.chunk") | {"choices": [], "usage": self.usage}

    def _take(self, raw: dict[str, Any], said: dict[str, Any]) -> None:
        choice = self._choices.setdefault(int(raw.get("index", 0)), Choice(int(raw.get("index", 0))))
        if said.get("content"):
            choice.content.append(_text(said["content"]))
        if thought := said.get("reasoning") or said.get("reasoning_content"):
            choice.reasoning.append(_text(thought))
        for position, call in enumerate(said.get("tool_calls") or ()):
            _merge_call(choice.tool_calls, call, position)
        choice.finish_reason = raw.get("finish_reason") or choice.finish_reason
        if choice.finish_reason == "abort":
            raise UpstreamError("The engine gave the answer up before its end; ask again.")


def clean_usage(usage: Any) -> dict[str, int]:
    """The three counts every client knows."""
    given = usage if isinstance(usage, dict) else {}
    return {name: int(given.get(name) or 0) for name in USAGE_FIELDS}


def _choice(raw: dict[str, Any], kind: str, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "index": int(raw.get("index", 0)),
        kind: said,
        "logprobs": raw.get("logprobs"),
        "finish_reason": raw.get("finish_reason"),
    }


def _text(said: Any) -> str:
    if not isinstance(said, str):
        raise UpstreamError("The engine said something that is not text; see the engine's log.")
    return said


def _merge_call(calls: dict[int, dict[str, Any]], piece: dict[str, Any], position: int) -> None:
    index = int(piece.get("index", position))
    call = calls.setdefault(index, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call["id"] = piece.get("id") or call["id"]
    function = piece.get("function") or {}
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _list(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = answer.get(name)
    if not isinstance(found, list):
        raise UpstreamError(f"The engine answered without `{name}`; see the engine's log.")
    return found
