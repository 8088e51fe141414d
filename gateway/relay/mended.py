"""Answers that an engine's dialect must mend on the way, by way of the client that knows how. Rare, and not hot."""

from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from gateway.engines.openai_client import EngineClient
from gateway.routing.policy import Target
from gateway.wire.chat import ChatRequest


class Taker(Protocol):
    """Who takes the mended answer."""

    def take_payloads(self, payloads: list[bytes]) -> None:
        """Some chunks of a stream."""

    def take_whole(self, body: bytes) -> None:
        """A whole reply."""

    async def room(self) -> None:
        """Wait until more can be taken."""


async def mended_call(
    engines: EngineClient, target: Target, request: ChatRequest, taker: Taker, traceparent: str | None
) -> None:
    """Ask the engine and hand its mended answer on. Raises what the engine client raises."""
    body: dict[str, Any] = msgspec.json.decode(request.parameters_json)
    body |= {"model": target.engine_model, "messages": msgspec.json.decode(request.engine_messages_json)}
    if not request.stream:
        taker.take_whole(msgspec.json.encode(await engines.complete(target.url, body, target.kind, traceparent)))
        return
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    stream = engines.stream(target.url, body, target.kind, traceparent)
    async with aclosing(stream) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            taker.take_payloads([msgspec.json.encode(chunk)])
            await taker.room()
    taker.take_payloads([b"[DONE]"])
