"""LMDeploy's answers to requests with stops or log-probabilities, made what OpenAI's API promises.

LMDeploy 0.18 ends an answer at any token that contains a stop, drops that token whole, and overlooks a stop that no
single token contains. So it is not told of stops: the answer is streamed, cut here, and the engine is left at the cut.
Its log-probabilities name pieces of the vocabulary, not text, and leave the chosen token out of the likeliest ones.
"""

from dataclasses import dataclass, field
from typing import Any

from gateway.engines.stops import StopFinder
from gateway.engines.token_text import Vocabulary

Json = dict[str, Any]


@dataclass
class _Choice:
    """One choice of an answer, as far as it has come."""

    finder: StopFinder | None
    tokens: int = 0
    ended: bool = False
    held: list[Json] = field(default_factory=list)
    """Log-probabilities of text that is held back."""


class Mending:
    """One answer."""

    def __init__(self, body: Json) -> None:
        """`body`: the request, as it would go to the engine."""
        given = body.get("stop") or ()
        self._stops = (given,) if isinstance(given, str) else tuple(given)
        self._top = body.get("top_logprobs") or 0
        self._body = body
        self._vocabulary = Vocabulary()
        self._choices = [self._new_choice() for _ in range(body.get("n") or 1)]
        self._left = False

    @property
    def in_stream(self) -> bool:
        """Whether the answer must be streamed from the engine, even if the client wants it whole."""
        return bool(self._stops)

    @property
    def cut(self) -> bool:
        """Whether all is said while the engine would go on: leave it."""
        return self._left and all(choice.ended for choice in self._choices)

    def usage(self, probed: Json) -> Json:
        """The token counts of an answer that was cut, given those of the `probe`."""
        asked, said = probed.get("prompt_tokens") or 0, sum(choice.tokens for choice in self._choices)
        counts = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
        return counts | {"prompt_tokens_details": probed.get("prompt_tokens_details") or {"cached_tokens": 0}}

    def request(self) -> Json:
        """The request as the engine is to see it."""
        if not self._stops:
            return self._body
        rest = {name: value for name, value in self._body.items() if name != "stop"}
        return rest | {"stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True}

    def probe(self) -> Json:
        """A request that tells how many tokens the prompt has, which an engine that was left no longer does."""
        apart = ("stop", "stream", "stream_options", "n", "max_tokens", "logprobs", "top_logprobs", "response_format")
        return {name: value for name, value in self._body.items() if name not in apart} | {"max_completion_tokens": 1}

    def chunk(self, chunk: Json) -> Json | None:
        """A chunk as the client may see it; None if there is nothing to tell yet."""
        mended = [shown for raw in chunk.get("choices") or () if (shown := self._chunk_choice(raw)) is not None]
        if not mended and chunk.get("choices"):
            return None
        return chunk | {"choices": mended}

    def reply(self, reply: Json) -> Json:
        """A whole reply as the client may see it."""
        choices = [choice | {"logprobs": self._shown(self._entries(choice))} for choice in reply.get("choices") or ()]
        return reply | {"choices": choices}

    def _new_choice(self) -> _Choice:
        return _Choice(StopFinder(self._stops) if self._stops else None)

    def _chunk_choice(self, raw: Json) -> Json | None:
        index = raw.get("index") or 0
        if not 0 <= index < len(self._choices):
            return raw  # nonsense is named by whoever reads it next
        choice, delta, reason = self._choices[index], raw.get("delta") or {}, raw.get("finish_reason")
        if choice.ended:
            return None
        choice.tokens += len(raw.get("output_ids") or ())
        choice.held += self._entries(raw)
        if choice.finder is not None:
            last = reason is not None or bool(delta.get("tool_calls"))
            text, found = choice.finder.take(delta.get("content") or "", last=last)
            delta = delta | {"content": text}
            if found:
                self._left, reason = self._left or reason is None, "stop"
                delta.pop("tool_calls", None)
            elif reason is None and not (text or delta.get("reasoning_content") or delta.get("tool_calls")):
                return None
        choice.ended = reason is not None
        entries, choice.held = choice.held, []
        return {"index": index, "delta": delta, "logprobs": self._shown(entries), "finish_reason": reason}

    def _entries(self, raw: Json) -> list[Json]:
        logprobs = raw.get("logprobs")
        return list(logprobs.get("content") or ()) if isinstance(logprobs, dict) else []

    def _shown(self, entries: list[Json]) -> Json | None:
        if not entries:
            return None
        for entry in entries:
            for piece in (entry, *entry.get("top_logprobs", ())):
                self._vocabulary.look_at(piece["token"])
        return {"content": [self._entry(entry) for entry in entries]}

    def _entry(self, entry: Json) -> Json:
        said = self._token(entry)
        likely = sorted([said, *map(self._token, entry.get("top_logprobs", ()))], key=lambda token: -token["logprob"])
        return said | {"top_logprobs": likely[: self._top]}

    def _token(self, entry: Json) -> Json:
        data = self._vocabulary.bytes_of(entry["token"])
        return {"token": data.decode("utf-8", "replace"), "logprob": entry["logprob"], "bytes": list(data)}


class Assembly:
    """A whole reply, made of the chunks of a stream."""

    def __init__(self) -> None:
        self._choices: dict[int, Json] = {}
        self._usage: Json | None = None

    def take(self, chunk: Json) -> None:
        """The next chunk."""
        self._usage = chunk.get("usage") or self._usage
        for raw in chunk.get("choices") or ():
            self._add(raw)

    def reply(self) -> Json:
        """All of it; usage is None where the stream did not tell."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        return {"choices": choices, "usage": self._usage}

    def _add(self, raw: Json) -> None:
        index, delta = raw.get("index") or 0, raw["delta"]
        new: Json = {"index": index, "message": {"role": "assistant", "content": None}, "logprobs": None}
        choice = self._choices.setdefault(index, new)
        message = choice["message"]
        for name in ("content", "reasoning_content"):
            if delta.get(name):
                message[name] = (message.get(name) or "") + delta[name]
        for call in delta.get("tool_calls") or ():
            _add_call(message.setdefault("tool_calls", []), call)
        if raw.get("logprobs"):
            choice["logprobs"] = choice["logprobs"] or {"content": []}
            choice["logprobs"]["content"] += raw["logprobs"]["content"]
        choice["finish_reason"] = raw.get("finish_reason") or choice.get("finish_reason")


def _add_call(calls: list[Json], piece: Json) -> None:
    index, function = piece.get("index") or 0, piece.get("function") or {}
    while len(calls) <= index:
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[index]
    call["id"] = call["id"] or piece.get("id")
    for name in ("name", "arguments"):
        call["function"][name] += function.get(name) or ""
