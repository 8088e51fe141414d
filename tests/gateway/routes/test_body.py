"""A body is read whole, however it comes; waiting for it takes a clock, and one that is there already needs none."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request

from gateway.errors import TooLarge
from gateway.routes.body import ClientLeft, ReceiptTooSlow, read_body


def request_of(*messages: dict[str, Any] | float, limit: int = 100, seconds: float = 5.0) -> Request:
    """A request whose messages come in turn; a number is how long the next one is waited for."""
    waiting = list(messages)

    async def receive() -> Any:
        while isinstance(waiting[0], float):
            pause = waiting[0]
            await asyncio.sleep(pause)
            waiting.pop(0)
        return waiting.pop(0)

    server = SimpleNamespace(body_limit_bytes=limit, image_body_limit_bytes=limit, receipt_seconds=seconds)
    services = SimpleNamespace(settings=SimpleNamespace(server=server))
    app = SimpleNamespace(state=SimpleNamespace(services=services))
    return Request({"type": "http", "method": "POST", "headers": [], "app": app}, receive)


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_is_whole_in_however_many_parts_and_whenever_it_comes() -> None:
    assert await read_body(request_of(part(b"abc"))) == b"abc"
    assert await read_body(request_of(part(b"a", more=True), part(b"b", more=True), part(b"c"))) == b"abc"
    assert await read_body(request_of(0.01, part(b"abc"))) == b"abc"
    assert await read_body(request_of(part(b"a", more=True), 0.01, part(b"bc"))) == b"abc"
    assert await read_body(request_of({"type": "http.request"})) == b""


async def test_a_body_over_the_limit_is_refused_however_it_comes() -> None:
    for messages in ((part(b"12345"),), (part(b"123", more=True), part(b"45")), (0.01, part(b"12345"))):
        with pytest.raises(TooLarge):
            await read_body(request_of(*messages, limit=4))
        whole = [message if isinstance(message, float) else dict(message) for message in messages]
        assert await read_body(request_of(*whole, limit=5)) == b"12345"


async def test_a_body_that_stays_away_is_waited_for_no_longer_than_the_limit() -> None:
    with pytest.raises(ReceiptTooSlow):
        await read_body(request_of(part(b"a", more=True), 5.0, part(b"b"), seconds=0.01))
    with pytest.raises(ReceiptTooSlow):
        await read_body(request_of(5.0, part(b"b"), seconds=0.01))


async def test_a_client_that_leaves_is_no_body() -> None:
    for messages in (({"type": "http.disconnect"},), (part(b"a", more=True), 0.01, {"type": "http.disconnect"})):
        with pytest.raises(ClientLeft):
            await read_body(request_of(*messages))
