"""A chat request for routes that wait: the same exchange as on the hot path, its answer awaited instead of written."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from fastapi import Request

from gateway.access.caller import Caller
from gateway.access.limits import Admission
from gateway.contracts import ids
from gateway.errors import AlignwayError
from gateway.feedback.tokens import HEADER
from gateway.relay.admission import estimated_tokens
from gateway.relay.exchange import DONE, ChatExchange
from gateway.relay.naming import take_names, vote_token
from gateway.services import Services
from gateway.wire.chat import ChatRequest

MAX_QUEUED_EVENTS = 64
"""A reader that is this far behind makes the engine wait."""


class Exchange:
    """One request and its answer. Leaving early, by cancellation or by closing an iterator, ends the engine's work."""

    def __init__(
        self,
        services: Services,
        caller: Caller,
        request: ChatRequest,
        asked: Request,
        *,
        completion_id: str | None = None,
    ) -> None:
        self._services, self._caller, self._request = services, caller, request
        head: dict[bytes, bytes] = dict(asked.scope["headers"])
        take_names(services, caller, request, head)
        self._completion_id = completion_id or ids.mint(ids.COMPLETION)
        self._vote_token = vote_token(services, caller, request, self._completion_id, head)
        self._traceparent = asked.headers.get("traceparent")
        self._admission: Admission | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers about the limits of the caller's key, once `admit` was called, and the vote token if wanted."""
        token = {} if self._vote_token is None else {HEADER: self._vote_token}
        return token if self._admission is None else dict(self._admission.headers) | token

    async def admit(self) -> None:
        """Count the request against the limits of its key; done by itself otherwise. Raises `RateLimited`."""
        if self._admission is None:
            self._admission = await self._services.limiter.admit(self._caller, estimated_tokens(self._request))

    async def reply(self) -> bytes:
        """The whole reply as JSON, already recorded."""
        outlet = _Awaited()
        exchange = await self._start(outlet)
        try:
            return await outlet.next()
        except BaseException:
            exchange.leave()
            raise

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The stream as server-sent events; the completion is recorded before the last is yielded."""
        outlet = _Awaited()
        exchange = await self._start(outlet)
        outlet.exchange = exchange
        try:
            while not outlet.drained:
                yield await outlet.next()
        finally:
            exchange.leave()

    async def complete(self) -> dict[str, Any]:
        """The whole reply."""
        reply: dict[str, Any] = msgspec.json.decode(await self.reply())
        return reply

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of the stream, one by one."""
        events = self.events()
        try:
            async for data in events:
                for event in data.removesuffix(DONE).split(b"\n\n"):
                    if event:
                        yield msgspec.json.decode(event.removeprefix(b"data: "))
        finally:
            await events.aclose()

    async def _start(self, outlet: "_Awaited") -> ChatExchange:
        await self.admit()
        if self._admission is None:
            raise AssertionError("admitted above")
        exchange = ChatExchange(
            self._services,
            self._caller,
            self._request,
            self._admission,
            outlet,
            completion_id=self._completion_id,
            traceparent=self._traceparent,
        )
        exchange.start()
        return exchange


class _Awaited:
    """An outlet that keeps what comes until somebody asks for it."""

    def __init__(self) -> None:
        self.exchange: ChatExchange | None = None
        self._queued: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._error: AlignwayError | None = None
        self._ended = self._paused = False

    @property
    def drained(self) -> bool:
        """Whether all has been asked for."""
        return self._ended and not self._queued

    def whole(self, body: bytes) -> None:
        """The answer in one piece."""
        self.end(body)

    def event(self, data: bytes) -> None:
        """Some events."""
        self._queued.append(data)
        if len(self._queued) > MAX_QUEUED_EVENTS and self.exchange is not None and not self._paused:
            self._paused = True
            self.exchange.pause()
        self._arrived.set()

    def end(self, data: bytes) -> None:
        """The last events."""
        self._ended = True
        self.event(data)

    def failed(self, error: AlignwayError) -> None:
        """No answer, or no more of it."""
        self._error = error
        self._arrived.set()

    async def next(self) -> bytes:
        """What came first. Raises the error that ended the answer, after what came before it."""
        while not self._queued:
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        data = self._queued.popleft()
        if self._paused and not self._queued and self.exchange is not None:
            self._paused = False
            self.exchange.resume()
        return data
