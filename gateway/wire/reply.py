"""From what an engine says to what an OpenAI client may see, and to what is recorded.

Engines add fields of their own (`prompt_logprobs`, `stop_reason`, `token_ids`, ...). Here an engine's JSON is read into
types that have OpenAI's fields and no others, and what leaves is written from such types: nothing else can leave.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from gateway.errors import UpstreamError
from gateway.wire.growing import Growing, pieces
from gateway.wire.reply_types import (
    Choice,
    ChunkChoice,
    Delta,
    Message,
    RawChoice,
    RawChunkChoice,
    RawReply,
    ReplyBody,
    Said,
    ShownUsage,
)
from gateway.wire.text_alike import TextAlike, decode_chunk, text_alone

FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "repetition": "stop",  # vLLM's word for an answer that it cut off because it went round in circles
}
"""How an engine may say that an answer ended, in OpenAI's words. Any other word means that it broke off."""

STORED_TEXT = b'[{"index":0,"message":{"role":"assistant","content":%b},"finish_reason":%b}]'
"""What `StoredChoice` makes of a text."""
REPLY_TEXT = (
    b',"choices":[{"index":0,"message":{"content":%b,"role":"assistant","refusal":null},"logprobs":null,'
    b'"finish_reason":%b}],"usage":%b}'
)
"""What `ReplyBody` makes of a text."""
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode_reply = msgspec.json.Decoder(RawReply).decode


class Signature(NamedTuple):
    """Who answers: what stands at the head of the answer and of each of its chunks."""

    completion_id: str
    created: int
    model: str
    """Name of the release."""
    release_id: str

    def head(self, kind: str) -> bytes:
        """The fields that open a reply or a chunk, as JSON without the closing brace."""
        return b'{"id":"%b","object":"%b","created":%d,%b' % (
            self.completion_id.encode(),  # ours, so without anything to escape
            kind.encode(),
            self.created,
            _who(self.model, self.release_id),
        )


@lru_cache(maxsize=1000)
def _who(model: str, release_id: str) -> bytes:
    return b'"model":%b,"system_fingerprint":%b' % (_encode(model), _encode(release_id))


class BrokenOff(UpstreamError):
    """An engine said in a stream that it broke off; `said` is its word for it, not yet fit for clients."""

    def __init__(self, said: Any) -> None:
        super().__init__("The engine broke off. The answer is incomplete; ask again.")
        self.said = said


class Answer:
    """Everything one completion has said so far, over all its choices."""

    __slots__ = ("_choices", "_expected", "_shows_reasoning", "_stored", "_usage_json", "finished", "usage")

    def __init__(self, expected: int, shows_reasoning: bool) -> None:
        self.usage = ShownUsage()
        self.finished = False
        """Whether every choice that was asked for came to its end."""
        self._expected = expected
        self._shows_reasoning = shows_reasoning
        self._choices: dict[int, Growing] = {}
        self._stored: bytes | None = None
        """The choices as they are stored, if that is known already; likewise the token counts."""
        self._usage_json: bytes | None = None

    def choices_json(self) -> bytes:
        """The choices as they are stored, in order."""
        return self._stored or _encode([self._choices[index].stored(index) for index in sorted(self._choices)])

    def usage_json(self) -> bytes:
        """The token counts as they are stored."""
        return self._usage_json or _encode(self.usage)

    def tokens_heard(self) -> int:
        """A guess at the tokens said so far, for answers whose engine did not come to count them."""
        return sum(choice.tokens_heard() for choice in self._choices.values())

    def finish_reasons(self) -> list[str]:
        """How the choices ended, in order; those that have not are left out."""
        return [reason for index in sorted(self._choices) if (reason := self._choices[index].finish_reason)]

    def _take(self, index: int, said: Said, finish_reason: str | None) -> Growing:
        growing = self._growing(index)
        growing.take(said)
        if finish_reason is not None:
            growing.finish_reason = _known_reason(finish_reason)
            self.finished = self._expected == 1 or self._have_all_ended()
        return growing

    def _have_all_ended(self) -> bool:
        ended = [choice.finish_reason is not None for choice in self._choices.values()]
        return len(ended) >= self._expected and all(ended)

    def _growing(self, index: int) -> Growing:
        found = self._choices.get(index)
        if found is None:
            if not 0 <= index < self._expected:
                raise UpstreamError(f"The engine sent choice {index} of {self._expected}; see the engine's log.")
            found = self._choices[index] = Growing()
        return found


class WholeAnswer(Answer):
    """An answer that comes in one piece."""

    __slots__ = ("_head",)

    def __init__(self, signature: Signature, expected: int = 1, *, reasoning: bool = True) -> None:
        """`reasoning`: the client may see what the model thought."""
        super().__init__(expected, reasoning)
        self._head = signature.head("chat.completion")

    def take(self, raw: bytes) -> bytes:
        """Take in an engine's reply; return the client's. Raises `UpstreamError` if it is nonsense."""
        reply = _read(_decode_reply, raw)
        if reply.usage is not None:
            self.usage = reply.usage.clean()
        choices = reply.choices
        if len(choices) == 1 and (text := _message_alone(choices[0])) is not None:
            # Nearly every answer is this: one choice with a text and nothing else. Its text is encoded once.
            reason = self._take(0, choices[0].message, choices[0].finish_reason).finish_reason
            said, ended, self._usage_json = _encode(text), _encode(reason), _encode(self.usage)
            self._stored = STORED_TEXT % (said, ended)
            return self._head + REPLY_TEXT % (said, ended, self._usage_json)
        body = ReplyBody([self._shown(choice) for choice in choices], self.usage)
        return self._head + b"," + _encode(body)[1:]

    def _shown(self, raw: RawChoice) -> Choice:
        growing = self._take(raw.index, raw.message, raw.finish_reason)
        message = Message(raw.message.content)
        thought = raw.message.thought
        if thought is not None and self._shows_reasoning:
            message.reasoning = message.reasoning_content = thought
        if calls := growing.tool_calls():
            message.tool_calls = calls
            message.content = message.content or None  # vLLM says "" where OpenAI says that there is no text
        return Choice(raw.index, message, raw.logprobs, growing.finish_reason)


class StreamedAnswer(Answer):
    """An answer that comes in chunks."""

    __slots__ = ("_head", "_like", "_patient", "_tail", "_text_head", "_text_tail")

    def __init__(
        self,
        signature: Signature,
        expected: int = 1,
        *,
        usage: bool = False,
        reasoning: bool = True,
        patient: bool = False,
    ) -> None:
        """`usage`: the client wants the token counts; `reasoning`: it may see what the model thought.

        `patient`: who speaks is told with the first word, not before it; some refusals come between the two.
        """
        super().__init__(expected, reasoning)
        self._patient = patient
        self._head = b"data: " + signature.head("chat.completion.chunk") + b","
        self._tail = b',"usage":null}\n\n' if usage else b"}\n\n"
        self._text_head = self._head + b'"choices":[{"index":0,"delta":{"content":'
        self._text_tail = b'},"logprobs":null,"finish_reason":null}]' + self._tail
        self._like = TextAlike()

    def take(self, raw: bytes) -> bytes | None:
        """Take in an engine's chunk; return the client's as an event, None if there is nothing to tell.

        Raises `UpstreamError` if the chunk is nonsense or says that the engine broke off.
        """
        like = self._like
        if (known := like.text_in(raw)) is not None:
            like.said.append(known)
            return b'%b"%b"%b' % (self._text_head, raw[like.start : like.end], self._text_tail)
        chunk = _read(decode_chunk, raw)
        choices = chunk.choices or ()
        if len(choices) == 1 and (text := text_alone(choices[0])) is not None:
            # Nearly every chunk of nearly every stream is this: a piece of text and nothing else.
            growing = self._growing(0)
            if growing.begun or (choices[0].delta.role is None and growing.due is None):
                growing.content.append(text)
                encoded = _encode(text)
                if like.may_learn:
                    like.learn(raw, encoded, growing.content)
                return self._text_head + encoded + self._text_tail
        if chunk.error is not None:
            raise BrokenOff(chunk.error)
        if chunk.usage is not None:
            self.usage = chunk.usage.clean()
        elif chunk.choices is None:
            raise UpstreamError("The engine sent a chunk without `choices`; see the engine's log.")
        shown = [told for choice in choices if (told := self._shown(choice)) is not None]
        if not shown:
            return None
        return self._head + b'"choices":' + _encode(shown) + self._tail

    def usage_event(self) -> bytes:
        """The last chunk of a stream whose client asked for usage."""
        return self._head + b'"choices":[],"usage":' + _encode(self.usage) + b"}\n\n"

    def _shown(self, raw: RawChunkChoice) -> ChunkChoice | None:
        said = raw.delta
        growing = self._take(raw.index, said, raw.finish_reason)
        delta = Delta(tool_calls=pieces(said.tool_calls))
        thought = said.thought
        if thought is not None and self._shows_reasoning:
            delta.reasoning = delta.reasoning_content = thought
        if said.content:
            delta.content = said.content
        finish_reason = growing.finish_reason if raw.finish_reason is not None else None
        nothing = delta == Delta() and finish_reason is None and raw.logprobs is None
        if not growing.begun:  # LMDeploy says in every chunk who speaks
            growing.due = growing.due or said.role
            if growing.due is not None and not (nothing and self._patient):
                delta.role, growing.begun, nothing = growing.due, True, False
                delta.content = said.content or (UNSET if said.content is None else "")
        if nothing:
            return None
        return ChunkChoice(raw.index, delta, raw.logprobs, finish_reason)


def _message_alone(choice: RawChoice) -> str | None:
    """The text of a reply's first choice that holds nothing else."""
    said = choice.message
    if choice.index or choice.logprobs is not None or said.tool_calls or said.reasoning or said.reasoning_content:
        return None
    return said.content


def _known_reason(given: str) -> str:
    known = FINISH_REASONS.get(given)
    if known is None:
        raise UpstreamError(f"The engine gave the answer up before its end ({given[:40]}); ask again.")
    return known


def _read(decode: Callable[[bytes], T], raw: bytes) -> T:
    try:
        return decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UpstreamError("The engine sent something that is no answer; see the engine's log.") from error
