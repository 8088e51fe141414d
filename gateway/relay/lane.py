"""The hot route inside uvicorn's protocol class: chat requests pass ASGI by, every other request goes to the app.

No scope, task, future or message is made for a chat: the parsed request goes straight to its exchange, whose bytes go
straight to the socket. A slow client pauses the engine's connection; one that leaves closes it.
"""

import asyncio
from typing import Any

from fastapi import FastAPI

from gateway.access.caller import Caller
from gateway.access.limits import Admission
from gateway.errors import AlignwayError, InvalidRequest
from gateway.relay.admission import authenticated, caller_at_once, estimated_tokens, too_large
from gateway.relay.asking import CHAT_PATH
from gateway.relay.client import ClientOutlet
from gateway.relay.exchange import ChatExchange
from gateway.relay.naming import TOKEN_HEADER, take_names, vote_token_line
from gateway.relay.outlet import as_ours
from gateway.services import Services
from gateway.wire.chat import ChatRequest, parse_chat_request
from gateway.wire.http_protocol import BodyTooSlow, BoundedHttpProtocol, grown
from gateway.wire.known_head import HeadMemory
from gateway.wire.media_type import require_json
from gateway.wire.request_id import HEADER, request_id

JSON = b"application/json"


class ChatLane(BoundedHttpProtocol):
    """One client connection; the application is set by `chat_lane`.

    A chat is *received* when its body is complete and *answered* when the last byte of its answer is written. Only when
    both are true may another request begin; one that comes earlier (pipelining) is not read, and the connection is
    closed after the answer, upon which HTTP/1.1 clients send it again.
    """

    application: FastAPI
    _hot = _received = _answered = False
    """A chat is being received or answered."""
    _body: bytes | bytearray = b""
    _exchange: ChatExchange | None = None
    _task: asyncio.Task[None] | None = None

    # ---- receiving

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it came behind a chat that is not answered yet."""
        if self._hot and self._received:
            self._deaf = True
            return
        if self._resting_since is None or len(data) > self._services.settings.server.body_limit_bytes:
            self._heads.pass_over()
        elif (known := self._heads.body_behind(data)) is not None:
            self._take_known(known)
            return
        super().data_received(data)
        if self._hot and not self._received and self._receipt is None and not self.transport.is_closing():
            self._bound_receipt(self._body_too_slow)

    def _take_known(self, body: bytes) -> None:
        """A whole chat whose head is that of an earlier one: as if it had been parsed."""
        self._resting_since, self._length, self._body = None, len(body), body
        self._hot, self._received, self._answered = True, True, False
        self._outlet = ClientOutlet(self.transport, self._fixed_head(), self._answer_written)
        try:
            self._meet()
            self._begin()
        except Exception as error:
            self._turn_away(as_ours(error))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._services: Services = self.application.state.services
        self._heads = HeadMemory()
        self.stall_seconds = self._services.settings.server.stall_seconds

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._hot:
            self._deaf = True
        else:
            self._resting_since = None  # it may come in one block with one that is answered already
            self._heads.forget()
            if self.timeout_keep_alive_task is not None:
                self._unset_keepalive_if_required()
            super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is complete: is it a chat, and is the connection free for it?"""
        if self._deaf or self.offers_another_protocol():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        hot = not busy and self.url == CHAT_PATH and self.parser.get_method() == b"POST"
        if hot:
            self._head = dict(self.headers)
            self._length = int(self._head.get(b"content-length", b"-1"))
            self._authorization = self._header(b"authorization")
        if not hot or self.parser.get_http_version() != "1.1" or self._is_large_from_a_stranger():
            super().on_headers_complete()
            return
        self._head_ended()
        self._hot, self._received, self._answered = True, False, False
        self._body = b""
        self._outlet = ClientOutlet(self.transport, self._fixed_head(), self._answer_written)
        try:
            self._meet()
        except Exception as error:
            self._outlet.keep_alive = not self.expect_100_continue  # who asked first need not send the body now
            self._turn_away(as_ours(error))

    def on_body(self, body: bytes) -> None:
        """Some of a request's body; of one that is answered already, nothing is kept."""
        self._unparsed_bytes = 0
        if self._deaf or (self._hot and self._answered):
            return
        if not self._hot:
            super().on_body(body)
            return
        self._body = grown(self._body, body) if self._body else body
        if len(self._body) > self._body_limit:
            self._body = b""
            self._turn_away(too_large(self._body_limit))

    def on_message_complete(self) -> None:
        """A request is complete."""
        if self._deaf:
            return
        if not self._hot:
            super().on_message_complete()
            return
        self._stop_receipt()
        self._received, self._unparsed_bytes = True, 0
        self._outlet.keep_alive = self._outlet.keep_alive and bool(self.parser.should_keep_alive())
        if self._outlet.keep_alive and not self.expect_100_continue:
            self._heads.learn()
        if self._answered:
            self._next()
            return
        try:
            self._begin()
        except Exception as error:
            self._turn_away(as_ours(error))

    def _is_large_from_a_stranger(self) -> bool:
        """Whether the application must ask who sends this before it is received: only some keys may send so much."""
        if 0 <= self._length <= self._services.settings.server.body_limit_bytes:
            return False
        return self._services.authenticator.remembered(self._authorization) is None

    def _fixed_head(self) -> bytes:
        date = self.server_state.default_headers[0][1] if self.server_state.default_headers else b""
        return b"date: %b\r\nx-request-id: %b\r\n" % (date, request_id(self._head.get(HEADER)))

    def _meet(self) -> None:
        """What the head alone says: who is it, and how much may come?"""
        server = self._services.settings.server
        self._caller = caller_at_once(self._services, self._head, self._authorization)
        may_be_large = self._caller is not None and self._caller.images
        self._body_limit = server.image_body_limit_bytes if may_be_large else server.body_limit_bytes
        if self._length > self._body_limit:
            raise too_large(self._body_limit)
        if self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _body_too_slow(self) -> None:
        self._receipt = None
        if self._hot and not self._received and not self.transport.is_closing():
            self._outlet.keep_alive = False
            if not self._answered:
                self._turn_away(BodyTooSlow(self.receipt_seconds))
            self.transport.close()

    # ---- answering

    def note_refusal(self, error: AlignwayError) -> None:
        """Count a request that came to nothing before it was an exchange."""
        self._services.metrics.refused(error.status, error.code)

    def send_400_response(self, msg: str) -> None:
        """Refuse what could not be parsed; behind a chat it counts as another request, which is not read."""
        if self._hot and self._received:
            self._deaf = True
        else:
            super().send_400_response(msg)

    def _refuse(self, error: InvalidRequest) -> None:
        if self._hot and self._answered:  # while the rest of its body came: nothing more can be said
            self.transport.close()
        else:
            super()._refuse(error)

    def _turn_away(self, error: AlignwayError) -> None:
        self.note_refusal(error)
        self._outlet.failed(error)

    def _begin(self) -> None:
        if self._head.get(b"content-type") != JSON or b"content-encoding" in self._head:
            require_json(self._header(b"content-type"), self._header(b"content-encoding"))
        services, caller = self._services, self._caller
        if caller is not None:
            request = self._parse(caller)
            admission = services.limiter.try_admit(caller, estimated_tokens(request))
            if admission is not None:
                self._exchange_for(caller, request, admission)
                return
        self._task = self.loop.create_task(self._begin_slowly())

    async def _begin_slowly(self) -> None:
        """As `_begin`, where the database must be asked."""
        try:
            caller = self._caller or await authenticated(self._services, self._authorization)
            request = self._parse(caller)
            admission = await self._services.limiter.admit(caller, estimated_tokens(request))
            self._task = None
            self._exchange_for(caller, request, admission)
        except Exception as error:
            self._task = None
            self._turn_away(as_ours(error))

    def _parse(self, caller: Caller) -> ChatRequest:
        limit = self._services.settings.server.body_limit_bytes
        if len(self._body) > limit and not caller.images:
            raise too_large(limit)
        return parse_chat_request(bytes(self._body), self._services.settings.surface)

    def _exchange_for(self, caller: Caller, request: ChatRequest, admission: Admission) -> None:
        self._body, services, head = b"", self._services, self._head
        take_names(services, caller, request, head)
        exchange = self._exchange = ChatExchange(
            services, caller, request, admission, self._outlet, traceparent=self._header(b"traceparent")
        )
        self._outlet.limits = admission.header_lines
        if TOKEN_HEADER in head:
            self._outlet.limits += vote_token_line(services, caller, request, exchange.completion_id, head)
        if self.flow.write_paused:  # the client has not taken the answer before this one
            exchange.pause()
        exchange.start()

    def _header(self, name: bytes) -> str | None:
        value = self._head.get(name)
        return None if value is None else value.decode("latin-1")

    def _answer_written(self) -> None:
        self._answered, self._exchange = True, None
        if self._received:
            self._next()

    def _next(self) -> None:
        """The chat is received and answered: the connection is free again, or at its end."""
        self._hot = False
        self.server_state.total_requests += 1
        if self._deaf or not self._outlet.keep_alive:
            self.transport.close()
        elif not self.transport.is_closing():
            if self.flow.write_paused:  # one that takes no answers gets no more of them
                self.flow.pause_reading()
            self.begin_rest()

    # ---- what may happen at any time

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()
        if self._task is not None:
            self._task.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: after this answer there is no other."""
        if self._hot:
            self._outlet.keep_alive = False
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """The client is slow: its engine waits, for a while. So it is on every route."""
        super().pause_writing()
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        """The client caught up."""
        super().resume_writing()
        if self._exchange is not None:
            self._exchange.resume()


def chat_lane(application: FastAPI, header_limit_bytes: int, receipt_seconds: float) -> type[ChatLane]:
    """The protocol over this application and with these limits, for `uvicorn.Config(http=...)`."""
    attributes: dict[str, Any] = {
        "application": application,
        "header_limit_bytes": header_limit_bytes,
        "receipt_seconds": receipt_seconds,
    }
    return type("ChatLane", (ChatLane,), attributes)
