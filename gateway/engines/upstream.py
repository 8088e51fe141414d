"""Connections to engines, on httptools: a request goes out in one write, what comes back is handed on as it comes.

Knows HTTP/1.1 and time limits; knows nothing of chats. Everything happens in callbacks: no task, no queue and no copy
stands between an engine's bytes and whoever waits for them.
"""

import asyncio
import ssl
from urllib.parse import urlsplit

import httptools

from gateway.engines.failures import UpstreamBrokeOff, UpstreamDisconnected, UpstreamUnreachable
from gateway.engines.keepalive import notice_when_gone
from gateway.engines.receiver import Receiver
from gateway.errors import AlignwayError, UpstreamError
from gateway.settings import UpstreamSettings
from gateway.wire.known_head import ReplyMemory

IDLE_SECONDS = 4.0
"""Engines close a connection that was idle for 5 s (uvicorn's default); one that old is not used again."""
MAX_IDLE = 512
REST_SECONDS = 5.0
"""The end of a reply whose last word is here may take this long."""
SWEEP_SECONDS = 0.5
MAX_BESIDE_BODY_BYTES = 64 << 10
"""Heads, trailers and the like that an engine may send without a byte of a reply's body."""
OK = 200


class Connection(asyncio.Protocol):
    """One connection to an engine, with at most one request on it."""

    def __init__(self, origin: "Origin") -> None:
        self._origin = origin
        self._receiver: Receiver | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._begun = self._headed = self._fed = self._complete = self._reusable = self._paused = False
        self._beside_body_bytes = 0
        self._transport: asyncio.Transport
        self.since = 0.0
        """When something came last; while idle: since when."""
        self.patience = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = transport  # type: ignore[assignment]
        self._parser = httptools.HttpResponseParser(self)
        notice_when_gone(transport.get_extra_info("socket"))

    def send(self, request: bytes, receiver: Receiver, patience: float) -> None:
        """Send a whole request; `patience`: how many seconds may pass without anything coming back."""
        self._receiver, self.patience = receiver, patience
        self._begun = self._headed = self._fed = self._complete = False
        self._beside_body_bytes = 0
        self.since = self._origin.loop.time()
        self._transport.write(request)

    def forget(self) -> None:
        """Nobody wants the reply any more: close the connection, at which the engine stops generating."""
        self._receiver = None
        self._transport.abort()

    def let_go(self) -> None:
        """Nobody wants the rest of the reply, which is as good as here: use the connection again after it."""
        self._receiver = None
        self.resume(REST_SECONDS)  # a slow client may have paused it, which is nothing to the next request

    def pause(self) -> None:
        """Take nothing more from the engine for now."""
        if self.usable:
            self._paused = True
            self._transport.pause_reading()
        self.patience = float("inf")

    def resume(self, patience: float) -> None:
        """Go on taking what the engine sends."""
        self.since, self.patience = self._origin.loop.time(), patience
        if self._paused and self.usable:
            self._transport.resume_reading()
        self._paused = False

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not self._transport.is_closing()

    def give_up(self) -> None:
        """Nothing came for too long."""
        self._break_off("The engine said nothing for too long; see `upstream.*_timeout_seconds`.")

    def data_received(self, data: bytes) -> None:
        """Bytes from the engine."""
        parser = self._parser
        if parser is None or (self._receiver is None and (self._complete or not self._begun)):
            self._transport.abort()  # bytes that nobody asked for
            return
        if self._receiver is not None:
            if not self._begun and (body := self._origin.replies.body_behind(data)) is not None:
                self._take_whole(self._receiver, body)
                return
            self.since = self._origin.loop.time()
        begins = not self._begun
        self._beside_body_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self._break_off("The engine sent something that is not HTTP; see the engine's log.")
                return
            self._reusable = False  # the reply is there; it is what came behind it that nobody asked for
        if self._complete:
            if begins and self._reusable:
                self._origin.replies.learn(data, self.since)
            self._end()
        elif self._beside_body_bytes > MAX_BESIDE_BODY_BYTES:
            self._break_off("The engine sent endless headers; see the engine's log.")

    def _take_whole(self, receiver: Receiver, body: bytes) -> None:
        """A whole reply whose head is that of an earlier one: as if it had been parsed."""
        self._begun = self._headed = self._fed = True
        receiver.reply_began(OK)
        receiver.reply_data(body)
        self._complete = self._reusable = True
        self._end()

    def on_message_begin(self) -> None:
        """The reply begins."""
        if self._complete:
            raise ValueError("another reply")  # ends the parser
        self._begun = True

    def on_headers_complete(self) -> None:
        """The head of the reply is there, or one that only says that the reply will come."""
        if self._parser is not None and (status := self._parser.get_status_code()) >= OK:
            self._headed = True
            if self._receiver is not None:
                self._receiver.reply_began(status)

    def on_body(self, data: bytes) -> None:
        """Some of the body."""
        self._fed, self._beside_body_bytes = True, 0
        if self._receiver is not None:
            self._receiver.reply_data(data)

    def on_message_complete(self) -> None:
        """The reply is complete. Only now does the parser know whether the connection can be used again."""
        self._complete = self._headed
        self._reusable = self._parser is not None and bool(self._parser.should_keep_alive())

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        parser, self._parser = self._parser, None
        self._origin.lost(self)
        if self._headed and exc is None and parser is not None and not parser.should_keep_alive():
            receiver, self._receiver = self._receiver, None
            if receiver is not None:
                receiver.reply_ended()  # replies without a length end with the connection
        elif self._fed:
            self._fail(UpstreamBrokeOff())
        else:
            self._fail(UpstreamDisconnected("The engine hung up before it answered; it may be restarting. Try again."))

    def _end(self) -> None:
        receiver, self._receiver = self._receiver, None
        if self._reusable and not self._transport.get_write_buffer_size():
            if self._paused:
                self.resume(self.patience)
            self._origin.put_back(self)
        else:
            self._transport.abort()
        if receiver is not None:
            receiver.reply_ended()

    def _break_off(self, message: str) -> None:
        self._fail(UpstreamError(message))
        self._transport.abort()

    def _fail(self, error: AlignwayError) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.reply_failed(error)


class Origin:
    """An engine's address and the connections to it."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop) -> None:
        parts = urlsplit(url)
        self.loop = loop
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/").encode()
        self._netloc = parts.netloc.rpartition("@")[2].encode()
        self._heads: dict[bytes, bytes] = {}
        self.replies = ReplyMemory()
        self._idle: list[Connection] = []
        self.busy: set[Connection] = set()

    def head(self, path: bytes) -> bytes:
        """The head of a request to `path`, up to its length."""
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = b"POST %b%b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n" % (
                self._prefix,
                path,
                self._netloc,
            )
        return head

    def request(self, method: str, path: str, body: bytes) -> bytes:
        """A whole request as is seldom made; `path` with its query."""
        first = b"%b %b%b HTTP/1.1\r\nhost: %b\r\n" % (method.encode(), self._prefix, path.encode(), self._netloc)
        kind = b"content-type: application/json\r\n" if body else b""
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (first, kind, len(body), body)

    def take_idle(self) -> Connection | None:
        """A connection that is open and was in use a moment ago."""
        youngest_allowed = self.loop.time() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.since > youngest_allowed:
                self.busy.add(connection)
                return connection
            connection.forget()
        return None

    async def connect(self, seconds: float) -> Connection:
        """A new connection. Raises `UpstreamUnreachable`."""
        try:
            async with asyncio.timeout(seconds):
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self), self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise UpstreamUnreachable("The engine cannot be reached; it may be restarting. Try again.") from error
        if not connection.usable:
            raise UpstreamUnreachable("The engine hung up at once; it may be restarting. Try again.")
        self.busy.add(connection)
        return connection

    def put_back(self, connection: Connection) -> None:
        """The connection is free."""
        self.busy.discard(connection)
        if len(self._idle) < MAX_IDLE:
            connection.since = self.loop.time()
            self._idle.append(connection)
        else:
            connection.forget()

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""
        self.busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Give up on what was silent for too long; close what was idle for too long."""
        for connection in [one for one in self.busy if now - one.since > one.patience]:
            connection.give_up()
        while self._idle and self._idle[0].since < now - IDLE_SECONDS:
            self._idle.pop(0).forget()

    def close(self) -> None:
        """Close every connection."""
        for connection in [*self.busy, *self._idle]:
            connection.forget()


class Upstreams:
    """Sends requests to engines; one per gateway worker, made within a running event loop."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.settings = settings
        self._loop = asyncio.get_running_loop()
        self._origins: dict[str, Origin] = {}
        self._sweeping = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def origin(self, url: str) -> Origin:
        """The connections to the engine at `url`."""
        origin = self._origins.get(url)
        if origin is None:
            origin = self._origins[url] = Origin(url, self._loop)
        return origin

    async def close(self) -> None:
        """Close every connection."""
        self._sweeping.cancel()
        for origin in self._origins.values():
            origin.close()
        await asyncio.sleep(0)

    def _sweep(self) -> None:
        now = self._loop.time()
        for origin in self._origins.values():
            origin.sweep(now)
        self._sweeping = self._loop.call_later(SWEEP_SECONDS, self._sweep)
