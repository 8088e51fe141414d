"""HTTP as uvicorn speaks it, with bounds on what a client may send before any of our code runs.

The head of a request (address and headers) is limited in bytes and in time, and every refusal is OpenAI's envelope.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import AlignwayError, InvalidRequest
from gateway.wire.error_body import error_body
from gateway.wire.request_id import request_id

HEADER_OVERHEAD_BYTES = 4
"""The colon, the space and the line end of a header."""
LAST_LOOK_SECONDS = 0.05
"""A worker that was itself held up finds the time over before it has read what came in time: it reads once more."""
LINE_ENDS = b"\r\n"
OFFERS = frozenset({b"upgrade", b"connection", b"http2-settings"})
"""Headers by which a client offers to speak something else than HTTP/1.1."""


class HeadTooLarge(InvalidRequest):
    """Address and headers together are over the limit."""

    status, code = 431, "headers_too_large"


class HeadTooSlow(InvalidRequest):
    """Address and headers did not arrive in time."""

    status, code = 408, "request_timeout"


class BodyTooSlow(InvalidRequest):
    """The body of a request did not arrive in time."""

    status, code = 408, "request_timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The body did not arrive within {seconds:g} s (`server.receipt_seconds`). Send it faster.")


class BoundedHttpProtocol(HttpToolsProtocol):
    """One client connection. Its limits are set by `chat_lane`."""

    header_limit_bytes = 16 << 10
    receipt_seconds = 15.0
    stall_seconds = 30.0
    _deaf = False
    """What the parser finds is not for us."""
    _plain_head = b""
    """The head of a request that is to be read again."""
    _resting_since: float | None = None
    """Since when nothing is asked, after an answer that was none of the application's."""
    _rest: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected: its first request must begin, and its head end, in time."""
        super().connection_made(transport)
        self._head_open, self._head_bytes, self._unparsed_bytes = False, 0, 0
        self._refusal: InvalidRequest | None = None
        self._receipt: asyncio.TimerHandle | None = None
        self._bound_receipt(self._head_too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_receipt()
        self._stop_stall()
        if self._rest is not None:
            self._rest.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came. The parser keeps an unfinished line to itself, so blocks are counted here."""
        if data[0] in LINE_ENDS and self._is_resting() and not data.strip(LINE_ENDS):
            return  # between two requests, and no reason to keep the connection open for longer
        self._resting_since = None
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._unparsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as offer:
            self._stay(data[offer.args[0] :])
        if self.transport.is_closing():
            return
        if self._head_open and self._receipt is None:
            self._bound_receipt(self._head_too_slow)
        if self._unparsed_bytes > self.header_limit_bytes:
            self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        """A request begins. What uvicorn prepares for an application waits until it is known to be for one."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._head_open, self._head_bytes, self._unparsed_bytes = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        if self._deaf:
            return
        self._count(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. What uvicorn does with it is done here, as this is called for every header of every request."""
        if self._deaf:
            return
        self._head_bytes += len(name) + len(value) + HEADER_OVERHEAD_BYTES
        if self._head_bytes > self.header_limit_bytes:
            self._count(0)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete and within its bounds, and for the application."""
        self._head_ended()
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the very list that stands in the scope
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a body."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is complete."""
        self._unparsed_bytes = 0
        super().on_message_complete()

    def offers_another_protocol(self) -> bool:
        """Whether a request with this head is to be read again, without its offer."""
        if not self.parser.should_upgrade() or self.parser.get_method() == b"CONNECT":
            return False
        lines = b"".join([b"%b: %b\r\n" % header for header in self.headers if header[0] not in OFFERS])
        self._plain_head = b"%b %b HTTP/1.1\r\n%b\r\n" % (self.parser.get_method(), self.url, lines)
        self._deaf = True
        return True

    def pause_writing(self) -> None:
        """The client is slow: that is borne for a while."""
        super().pause_writing()
        self._stall = self._stall or self._watch()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._stop_stall()
        super().resume_writing()
        self.flow.resume_reading()

    def begin_rest(self) -> None:
        """Nothing is asked: close the connection after a while. One timer serves many rests, as most are short."""
        self._resting_since = self.loop.time()
        if self._rest is None:
            self._rest = self.loop.call_later(self.timeout_keep_alive, self._rested)

    def _rested(self) -> None:
        self._rest = None
        if self._resting_since is None:  # a request is under way; after it begins another rest
            return
        left = self._resting_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._rest = self.loop.call_later(left, self._rested)
        else:
            self._rest = self.loop.call_later(LAST_LOOK_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        if self._resting_since is not None and not self.transport.is_closing():
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """The rest after an answer of the application's is over, unless something has come meanwhile."""
        self.timeout_keep_alive_task = self.loop.call_later(LAST_LOOK_SECONDS, super().timeout_keep_alive_handler)

    def _is_resting(self) -> bool:
        return self._resting_since is not None or self.timeout_keep_alive_task is not None

    def _stay(self, rest: bytes) -> None:
        """Stay with HTTP/1.1. Some clients (Java's) offer HTTP/2 with their first request, and the parser leaves the
        body behind such a head to the other protocol: parse the request again.
        """
        if self._plain_head:
            head, self._plain_head, self._deaf = self._plain_head, b"", False
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.data_received(head + rest)

    def send_400_response(self, msg: str) -> None:
        """Refuse what could not be parsed, for the reason found while parsing if there is one."""
        self._refuse(self._refusal or InvalidRequest(msg, code="invalid_http"))

    def _head_ended(self) -> None:
        self._head_open = False
        self._stop_receipt()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.header_limit_bytes:
            self._refusal = self._too_large()
            raise self._refusal  # stops the parser, which then calls `send_400_response`

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(
            f"Address and headers are larger than {self.header_limit_bytes} bytes. Send less, or raise "
            "`server.header_limit_bytes`."
        )

    def _head_too_slow(self) -> None:
        self._receipt = None
        if self._head_open:
            self._refuse(HeadTooSlow(f"The headers did not arrive within {self.receipt_seconds:g} s."))
        elif not self.transport.is_closing():
            self.transport.close()  # connected, and never asked anything

    def _bound_receipt(self, too_slow: Callable[[], None]) -> None:
        """What is awaited must come in time, else `too_slow` is called."""
        self._receipt = self.loop.call_later(self.receipt_seconds, self._look_once_more, too_slow)

    def _look_once_more(self, too_slow: Callable[[], None]) -> None:
        self._receipt = self.loop.call_later(LAST_LOOK_SECONDS, too_slow)

    def _stop_receipt(self) -> None:
        if self._receipt is not None:
            self._receipt.cancel()
            self._receipt = None

    def _watch(self) -> asyncio.TimerHandle:
        return self.loop.call_later(self.stall_seconds, self._stalled, self.transport.get_write_buffer_size())

    def _stalled(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:  # slow, but it takes something
            self._stall = self._watch()
        else:
            self.transport.abort()

    def _stop_stall(self) -> None:
        stall, self._stall = self._stall, None
        if stall is not None:
            stall.cancel()

    def _refuse(self, error: InvalidRequest) -> None:
        self._stop_receipt()
        if self.transport.is_closing():
            return
        if self._may_speak():
            self.note_refusal(error)
            self.transport.write(_refusal(error))
        self.transport.close()

    def _may_speak(self) -> bool:
        """Whether the next answer on this connection is the one to the request that is being parsed, and not begun."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        if self.pipeline or cycle.response_started or not cycle.more_body:
            return False
        cycle.disconnected = True  # the application has no say any more
        cycle.message_event.set()
        return True

    def note_refusal(self, error: AlignwayError) -> None:
        """For those who count what is refused here."""


def grown(body: bytes | bytearray, piece: bytes) -> bytearray:
    """A body and a piece more, in one piece of memory: a list of a million small ones would take many times theirs."""
    longer = body if isinstance(body, bytearray) else bytearray(body)
    longer += piece
    return longer


def _refusal(error: InvalidRequest) -> bytes:
    body = msgspec.json.encode(error_body(error))
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\nx-request-id: {request_id(None).decode()}\r\n\r\n"
    )
    return head.encode() + body
