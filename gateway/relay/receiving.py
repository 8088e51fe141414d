"""Takes in what an engine replies to one chat, and passes on what a client may have of it at once."""

from abc import ABC, abstractmethod

from gateway.engines.dialects import dialect_of
from gateway.engines.upstream import Connection
from gateway.errors import AlignwayError, UpstreamError
from gateway.relay.outlet import Outlet, as_ours
from gateway.relay.tally import Tally
from gateway.routing.pool import Lease
from gateway.wire.chat import ChatRequest
from gateway.wire.events import EventSplitter
from gateway.wire.reply import BrokenOff, StreamedAnswer, WholeAnswer

OK = 200
MAX_REPLY_BYTES = 64 << 20
REFUSAL_BYTES = 64 << 10
"""Engines have been seen to refuse with megabytes of text."""


class Receiving(ABC):
    """The receiver of an exchange's replies, one attempt at a time. What its ends mean is for the exchange to say."""

    _request: ChatRequest
    _outlet: Outlet
    _tally: Tally
    _streams: bool
    _answer: StreamedAnswer | WholeAnswer | None = None
    _lease: Lease | None = None
    _connection: Connection | None = None
    _over = False
    _status = _size = 0
    _held: list[bytes]
    """What is said already, and waits for the record."""

    def expect_reply(self) -> None:
        """A request goes to an engine."""
        self._status = self._size = 0
        self._parts: list[bytes] = []
        if self._streams:
            self._events = EventSplitter()

    def reply_began(self, status: int) -> None:
        """The head of the engine's reply is there."""
        self._status = status

    def reply_data(self, data: bytes) -> None:
        """Some of the engine's reply."""
        if self._over:
            return
        try:
            if self._streams and self._status == OK:
                self.take_payloads(self._events.payloads(data))
                return
            self._size += len(data)
            if self._status == OK and self._size > MAX_REPLY_BYTES:
                raise UpstreamError("The engine sent an endless answer; see the engine's log.")
            self._parts.append(data)
            if self._status != OK and self._size > REFUSAL_BYTES:
                self._drop()
                self.reply_ended()
        except Exception as error:
            self._drop()
            self.reply_failed(as_ours(error))

    def reply_ended(self) -> None:
        """All of the engine's reply has come."""
        if self._over or self._lease is None:
            return
        self._connection, parts = None, self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        try:
            if self._status != OK:
                dialect = dialect_of(self._lease.target.kind)
                raise dialect.refusal(self._status, body, self._request.asks_grammar)
            self.take_whole(body)
        except Exception as error:
            self.reply_failed(as_ours(error))

    def take_payloads(self, payloads: list[bytes]) -> None:
        """Pass a stream's chunks on. Raises `UpstreamError` for nonsense, and at an end that is none."""
        answer = self._answer
        if not isinstance(answer, StreamedAnswer):
            raise UpstreamError("The engine streamed an answer that was to come whole; see the engine's log.")
        held = self._held
        for payload in payloads:
            if payload == b"[DONE]":
                self._complete(answer)
                return
            try:
                event = answer.take(payload)
            except BrokenOff as error:
                raise self._broken_off(error) from error
            if event is not None:
                held.append(event)
        if not held:
            return
        if self._tally.first_chunk_seconds is None:
            self._note_first_chunk()
        if not answer.finished:  # what may be the end waits for the record; everything else goes on at once
            self._outlet.event(held[0] if len(held) == 1 else b"".join(held))
            held.clear()

    def _broken_off(self, error: BrokenOff) -> AlignwayError:
        if self._lease is None:
            return error
        dialect = dialect_of(self._lease.target.kind)
        return dialect.broken_off(error.said, self._request.asks_grammar)

    def take_whole(self, body: bytes) -> None:
        """Pass a whole reply on. Raises `UpstreamError` for nonsense."""
        answer = self._answer
        if not isinstance(answer, WholeAnswer):
            raise UpstreamError("The engine closed the stream before its end. The answer is incomplete; ask again.")
        self._held.append(answer.take(body))
        self._note_first_chunk()
        self._complete(answer)

    def _note_first_chunk(self) -> None:
        self._tally.first_chunk()
        if self._lease is not None:
            self._answered(self._lease)

    @abstractmethod
    def reply_failed(self, error: AlignwayError) -> None:
        """This attempt is over; another one may follow."""

    @abstractmethod
    def _answered(self, lease: Lease) -> None:
        """The engine has said something."""

    @abstractmethod
    def _complete(self, answer: StreamedAnswer | WholeAnswer) -> None:
        """The engine is done. Raises `UpstreamError` if it did not come to an end."""

    @abstractmethod
    def _drop(self) -> None:
        """Stop the engine's work."""
