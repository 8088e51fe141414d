"""From chat chunks to the events of `POST /v1/responses`, and from a chat reply to its response. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gateway.wire.responses.output import CallItem, Event, Item, MessageItem, ReasoningItem
from gateway.wire.responses.request import ResponsesRequest
from gateway.wire.responses.response import INCOMPLETE, ended_response, failed_response, response_head


class ResponseEvents:
    """One response as it grows. Every event it tells is numbered."""

    def __init__(self, request: ResponsesRequest, response_id: str) -> None:
        self._request, self._id = request, response_id
        self._head: dict[str, Any] | None = None
        self._items: list[Item] = []
        self._open: dict[str, Item] = {}
        """By what it holds: `reasoning`, `message`, or the number of a call."""
        self._finish_reason: str | None = None
        self._usage: Any = None
        self._sequence = 0

    def take(self, chunk: dict[str, Any]) -> list[Event]:
        """What a chat chunk says, as events."""
        events: list[Event] = []
        if self._head is None:
            self._head = response_head(self._request, self._id, chunk["created"], chunk["model"])
            events += [{"type": kind, "response": self._head} for kind in ("response.created", "response.in_progress")]
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk["choices"]:
            events += self._say(choice.get("delta") or {}, (choice.get("logprobs") or {}).get("content") or ())
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
        return self._numbered(events)

    def end(self, at: int) -> list[Event]:
        """The events that close the answer; the last one has the response."""
        events = [] if any(item.kind != "reasoning" for item in self._items) else [*self._begin("message", MessageItem)]
        cut = self._finish_reason in INCOMPLETE
        for number, key in enumerate(list(self._open), 1):
            last = cut and number == len(self._open)
            events += self._open[key].close("incomplete" if last else "completed")
        self._open.clear()
        response = ended_response(self._head or {}, self._shown(), self._finish_reason, self._usage, at)
        return self._numbered([*events, {"type": f"response.{response['status']}", "response": response}])

    def fail(self, message: str) -> list[Event]:
        """The event of an answer that broke off."""
        for item in self._open.values():
            item.status = "incomplete"
        response = failed_response(self._head or {}, self._shown(), message)
        return self._numbered([{"type": "response.failed", "response": response}])

    def _say(self, delta: dict[str, Any], logprobs: Sequence[dict[str, Any]]) -> Iterator[Event]:
        if thought := delta.get("reasoning") or delta.get("reasoning_content"):
            yield from self._begin("reasoning", ReasoningItem)
            yield self._open["reasoning"].say(thought)
        if text := delta.get("content"):
            yield from self._close("reasoning")
            yield from self._begin("message", MessageItem)
            yield self._open["message"].say(text, logprobs)
        for position, piece in enumerate(delta.get("tool_calls") or ()):
            yield from self._close("reasoning", "message")
            yield from self._call(f"call {piece.get('index', position)}", piece)

    def _call(self, key: str, piece: dict[str, Any]) -> Iterator[Event]:
        # Calls stay open to the end: an engine may write several at once.
        function = piece.get("function") or {}
        if key not in self._open:
            item = self._open[key] = CallItem(len(self._items), self._id.partition("_")[2])
            self._items.append(item)
            item.name_it(piece.get("id"), function.get("name"))
            yield from item.begin()
        if arguments := function.get("arguments"):
            yield self._open[key].say(arguments)

    def _begin(self, key: str, kind: type[Item]) -> Iterable[Event]:
        if key in self._open:
            return ()
        item = self._open[key] = kind(len(self._items), self._id.partition("_")[2])
        self._items.append(item)
        return item.begin()

    def _close(self, *keys: str) -> Iterator[Event]:
        for key in keys:
            if key in self._open:
                yield from self._open.pop(key).close("completed")

    def _shown(self) -> list[dict[str, Any]]:
        return [item.shown() for item in self._items]

    def _numbered(self, events: Iterable[Event]) -> list[Event]:
        numbered = []
        for event in events:
            numbered.append({**event, "sequence_number": self._sequence})
            self._sequence += 1
        return numbered


def whole_response(request: ResponsesRequest, response_id: str, reply: dict[str, Any], at: int) -> dict[str, Any]:
    """The response that a whole chat reply makes: the one its stream would have ended with."""
    events = ResponseEvents(request, response_id)
    choices = [{**choice, "delta": choice["message"]} for choice in reply["choices"]]
    events.take({**reply, "choices": choices})
    response: dict[str, Any] = events.end(at)[-1]["response"]
    return response
