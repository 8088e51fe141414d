"""Writes one answer to one client's connection, as HTTP/1.1. Knows nothing of how the answer comes to be."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from gateway.errors import AlignwayError
from gateway.wire.error_body import error_body, error_headers

STREAM_HEAD = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
    b"transfer-encoding: chunked\r\n"
)
JSON_HEAD = b"content-type: application/json\r\ncontent-length: %d\r\n"
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class ClientOutlet:
    """The outlet of one chat: whole, or as server-sent events in HTTP chunks."""

    __slots__ = ("_done", "_head", "_streaming", "_transport", "keep_alive", "limits")

    def __init__(self, transport: asyncio.Transport, head: bytes, done: Callable[[], None]) -> None:
        """`head`: header lines that stand on every answer; `done` is called once the answer is written."""
        self._transport, self._head, self._done = transport, head, done
        self._streaming = False
        self.keep_alive = True
        """Whether the client may send another request after this one."""
        self.limits = b""
        """Further header lines, about the limits of the client's key."""

    def whole(self, body: bytes) -> None:
        """The answer in one piece."""
        self._write(self._opening(200, JSON_HEAD % len(body)) + body)
        self._done()

    def event(self, data: bytes) -> None:
        """Some events of a stream, as one HTTP chunk."""
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        if not self._streaming:
            self._streaming = True
            chunk = self._opening(200, STREAM_HEAD) + chunk
        self._write(chunk)

    def end(self, data: bytes) -> None:
        """The last events of a stream."""
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
        if not self._streaming:
            chunk = self._opening(200, STREAM_HEAD) + chunk
        self._write(chunk)
        self._done()

    def failed(self, error: AlignwayError) -> None:
        """An error instead of an answer; in a stream as its last event, with no `[DONE]` after it."""
        body = msgspec.json.encode(error_body(error))
        if self._streaming:
            self.end(b"data: %b\n\n" % body)
            return
        lines = "".join([f"{name}: {value}\r\n" for name, value in error_headers(error).items()]).encode("latin-1")
        self._write(self._opening(error.status, JSON_HEAD % len(body) + lines) + body)
        self._done()

    def _opening(self, status: int, head: bytes) -> bytes:
        close = b"" if self.keep_alive else b"connection: close\r\n"
        return b"%b%b%b%b%b\r\n" % (STATUS_LINES[status], head, self._head, self.limits, close)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)
