"""The fields of OpenAI's answers, as they are read from an engine, shown to a client and stored. No behaviour here.

A field that is not listed is skipped while reading, and so goes no further.
"""

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class CachedTokens(Struct, gc=False):
    """How much of a prompt the engine had in its cache."""

    cached_tokens: int | None = None


class RawUsage(Struct, gc=False):
    """Token counts as engines give them, with nulls."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: CachedTokens | None = None

    def clean(self) -> "ShownUsage":
        """With zeros for what is missing."""
        asked, said = self.prompt_tokens or 0, self.completion_tokens or 0
        cached = self.prompt_tokens_details
        known = cached is not None and cached.cached_tokens is not None
        return ShownUsage(asked, said, self.total_tokens or asked + said, cached if known and cached else UNSET)


class ShownUsage(Struct, gc=False):
    """Token counts as clients see them and as they are stored."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: CachedTokens | UnsetType = UNSET


class TopLogprob(Struct, gc=False):
    """One token that was likely at a place."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(Struct):
    """The token that was said at a place, and what else was likely there."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class Logprobs(Struct):
    """Log-probabilities of a choice, token by token, in nats."""

    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None


class Function(Struct, gc=False):
    """The function of a tool call, or a piece of it."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(Struct):
    """A tool call, or a piece of it, as an engine says it."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: Function | None = None


class ShownFunction(Struct, gc=False):
    """The function of a whole tool call."""

    name: str
    arguments: str


class ShownToolCall(Struct):
    """A whole tool call, as clients see it and as it is stored."""

    id: str
    function: ShownFunction
    type: str = "function"


class PieceOfFunction(Struct, omit_defaults=True, gc=False):
    """What a chunk adds to a function."""

    name: str | None = None
    arguments: str | None = None


class PieceOfToolCall(Struct, omit_defaults=True):
    """What a chunk adds to a tool call."""

    index: int | UnsetType = UNSET
    id: str | None = None
    type: str | None = None
    function: PieceOfFunction | None = None


class Said(Struct, frozen=True):
    """A message, or what a chunk adds to it, as an engine says it."""

    content: str | None = None
    role: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thought(self) -> str | None:
        """What the model thought; engines use either of two names for it."""
        return self.reasoning or self.reasoning_content or None


class RawChunkChoice(Struct):
    """A choice in an engine's chunk."""

    delta: Said = Said()
    index: int = 0
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class RawChunk(Struct):
    """An engine's chunk."""

    choices: list[RawChunkChoice] | None = None
    usage: RawUsage | None = None
    error: Any = None


class RawChoice(Struct):
    """A choice in an engine's whole reply."""

    message: Said
    index: int = 0
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class RawReply(Struct):
    """An engine's whole reply."""

    choices: list[RawChoice]
    usage: RawUsage | None = None


class Delta(Struct, omit_defaults=True):
    """What a chunk adds to a message, as clients see it."""

    role: str | None = None
    content: str | UnsetType = UNSET
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[PieceOfToolCall] | None = None


class ChunkChoice(Struct):
    """A choice in a client's chunk."""

    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: str | None


class Message(Struct):
    """A whole message, as clients see it."""

    content: str | None
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ShownToolCall] | UnsetType = UNSET
    role: str = "assistant"
    refusal: None = None


class Choice(Struct):
    """A choice in a client's whole reply."""

    index: int
    message: Message
    logprobs: Logprobs | None
    finish_reason: str | None


class ReplyBody(Struct):
    """What follows the signature in a client's whole reply."""

    choices: list[Choice]
    usage: ShownUsage


class StoredMessage(Struct, omit_defaults=True):
    """A message as it is stored: what the model thought stands apart from what it said."""

    role: str
    content: str
    reasoning: str | None = None
    tool_calls: list[ShownToolCall] | None = None


class StoredChoice(Struct):
    """A choice as it is stored."""

    index: int
    message: StoredMessage
    finish_reason: str | None
