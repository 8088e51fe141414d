"""Output items as they grow: reasoning, text, function calls. Each tells its growth as stream events. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

Event = dict[str, Any]


class Item(ABC):
    """One output item. `place` names it in its events."""

    kind: str
    prefix: str

    def __init__(self, index: int, name: str) -> None:
        self.item_id = f"{self.prefix}_{name}_{index}"
        self.place = {"item_id": self.item_id, "output_index": index}
        self.status = "in_progress"
        self._said: list[str] = []

    @property
    def text(self) -> str:
        """Everything said so far."""
        return "".join(self._said)

    @abstractmethod
    def shown(self) -> dict[str, Any]:
        """The item as it is now."""

    def begin(self) -> Iterator[Event]:
        """The events before its first text."""
        yield {"type": "response.output_item.added", "output_index": self.place["output_index"], "item": self.shown()}

    def close(self, status: str) -> Iterator[Event]:
        """The events after its last text."""
        self.status = status
        yield from self._done()
        yield {"type": "response.output_item.done", "output_index": self.place["output_index"], "item": self.shown()}

    @abstractmethod
    def say(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Event:
        """More text, with the log-probabilities of its tokens if they were asked for."""

    @abstractmethod
    def _done(self) -> Iterator[Event]: ...


class TextItem(Item):
    """An item with one content part."""

    part_type: str
    event: str

    def begin(self) -> Iterator[Event]:
        """The item, then its part."""
        yield from super().begin()
        yield {"type": "response.content_part.added", **self.place, "content_index": 0, "part": self._part()}

    def _part(self) -> dict[str, Any]:
        return {"type": self.part_type, "text": self.text}

    def _done(self) -> Iterator[Event]:
        yield {"type": f"response.{self.event}.done", **self.place, "content_index": 0, "text": self.text}
        yield {"type": "response.content_part.done", **self.place, "content_index": 0, "part": self._part()}

    def _content(self) -> list[dict[str, Any]]:
        return [self._part()] if self._said or self.status != "in_progress" else []


class ReasoningItem(TextItem):
    """What the model thought before it answered."""

    kind, prefix, part_type, event = "reasoning", "rs", "reasoning_text", "reasoning_text"

    def say(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Event:
        """More thought."""
        self._said.append(text)
        return {"type": "response.reasoning_text.delta", **self.place, "content_index": 0, "delta": text}

    def shown(self) -> dict[str, Any]:
        """The item as it is now."""
        head = {"id": self.item_id, "type": "reasoning", "summary": []}
        return {**head, "content": self._content(), "status": self.status}


class MessageItem(TextItem):
    """The answer's text."""

    kind, prefix, part_type, event = "message", "msg", "output_text", "output_text"

    def __init__(self, index: int, name: str) -> None:
        super().__init__(index, name)
        self._logprobs: list[dict[str, Any]] = []

    def say(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Event:
        """More text, with its log-probabilities."""
        self._said.append(text)
        news = [_logprob(one) for one in logprobs]
        self._logprobs += news
        delta = {"type": "response.output_text.delta", **self.place, "content_index": 0, "delta": text}
        return {**delta, "logprobs": [_without_bytes(one) for one in news]}

    def shown(self) -> dict[str, Any]:
        """The item as it is now."""
        head = {"id": self.item_id, "type": "message", "role": "assistant"}
        return {**head, "status": self.status, "content": self._content()}

    def _part(self) -> dict[str, Any]:
        return {**super()._part(), "annotations": [], "logprobs": self._logprobs}

    def _done(self) -> Iterator[Event]:
        done, part_done = super()._done()
        yield {**done, "logprobs": [_without_bytes(one) for one in self._logprobs]}
        yield part_done


class CallItem(Item):
    """A call of one of the client's functions."""

    kind, prefix = "function_call", "fc"

    def __init__(self, index: int, name: str) -> None:
        super().__init__(index, name)
        self.call_id = f"call_{name}_{index}"
        self.function = ""

    def name_it(self, call_id: Any, function: Any) -> None:
        """The engine said which call this is."""
        self.call_id = call_id or self.call_id
        self.function += function or ""

    def say(self, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> Event:
        """More of the arguments."""
        self._said.append(text)
        return {"type": "response.function_call_arguments.delta", **self.place, "delta": text}

    def shown(self) -> dict[str, Any]:
        """The item as it is now."""
        head = {"id": self.item_id, "type": "function_call", "call_id": self.call_id, "name": self.function}
        return {**head, "arguments": self.text, "status": self.status}

    def _done(self) -> Iterator[Event]:
        yield {"type": "response.function_call_arguments.done", **self.place, "arguments": self.text}


def _logprob(given: dict[str, Any]) -> dict[str, Any]:
    likely = [_token(one) for one in given.get("top_logprobs") or ()]
    return {**_token(given), "top_logprobs": likely}


def _without_bytes(logprob: dict[str, Any]) -> dict[str, Any]:
    """Events have the tokens as text alone."""
    likely = [{"token": one["token"], "logprob": one["logprob"]} for one in logprob["top_logprobs"]]
    return {"token": logprob["token"], "logprob": logprob["logprob"], "top_logprobs": likely}


def _token(given: dict[str, Any]) -> dict[str, Any]:
    token = given["token"]
    return {"token": token, "logprob": given["logprob"], "bytes": given.get("bytes") or list(token.encode())}
