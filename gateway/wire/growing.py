"""One choice of an answer as it grows, and the tool calls in it, which come in pieces."""

from collections.abc import Sequence

from gateway.wire.reply_types import (
    PieceOfFunction,
    PieceOfToolCall,
    Said,
    ShownFunction,
    ShownToolCall,
    StoredChoice,
    StoredMessage,
    ToolCall,
)

CHARACTERS_PER_TOKEN = 4


class Growing:
    """What a choice has said so far."""

    __slots__ = ("_calls", "begun", "content", "due", "finish_reason", "reasoning")

    def __init__(self) -> None:
        self.begun = False
        """Whether the client knows who speaks."""
        self.due: str | None = None
        """Who speaks, as long as the client has not been told."""
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.finish_reason: str | None = None
        self._calls: dict[int, ShownToolCall] = {}

    def take(self, said: Said) -> None:
        """Add what an engine said."""
        if said.content:
            self.content.append(said.content)
        thought = said.reasoning or said.reasoning_content
        if thought:
            self.reasoning.append(thought)
        if said.tool_calls is None:
            return
        for position, piece in enumerate(said.tool_calls):
            self._take_call(position if piece.index is None else piece.index, piece)

    def tool_calls(self) -> list[ShownToolCall]:
        """The tool calls, in the engine's order."""
        return [self._calls[index] for index in sorted(self._calls)]

    def tokens_heard(self) -> int:
        """A guess at the tokens of it: at least one to a piece, and to so many characters."""
        texts = (*self.content, *self.reasoning, *(call.function.arguments for call in self._calls.values()))
        return sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text in texts)

    def stored(self, index: int) -> StoredChoice:
        """The choice as it is stored."""
        message = StoredMessage("assistant", "".join(self.content))
        message.reasoning = "".join(self.reasoning) or None
        message.tool_calls = self.tool_calls() or None
        return StoredChoice(index, message, self.finish_reason)

    def _take_call(self, index: int, piece: ToolCall) -> None:
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = ShownToolCall("", ShownFunction("", ""))
        call.id = piece.id or call.id
        if piece.function is not None:
            call.function.name += piece.function.name or ""
            call.function.arguments += piece.function.arguments or ""


def pieces(calls: Sequence[ToolCall] | None) -> list[PieceOfToolCall] | None:
    """What a chunk adds to tool calls, as clients see it; None if nothing."""
    if not calls:
        return None
    return [_piece(position, call) for position, call in enumerate(calls)]


def _piece(position: int, call: ToolCall) -> PieceOfToolCall:
    said = call.function
    function = None if said is None else PieceOfFunction(said.name, said.arguments)
    return PieceOfToolCall(position if call.index is None else call.index, call.id, call.id and "function", function)
