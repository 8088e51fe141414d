"""An engine on loopback that says, byte for byte, what a test tells it to: sense, nonsense, or nothing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from sqlalchemy import select

from gateway.storage.feedback_tables import Completion
from tests.loopback import listening
from tests.patience import patient
from tests.stack import ADMIN_KEY, Stack, running, stack_settings

KEY = {"authorization": f"Bearer {ADMIN_KEY}"}
Behaviour = Callable[["Call"], Awaitable[None]]
NO_CIRCUIT = {"circuit_failures": 1_000_000}
"""Tests have the engine fail again and again, and look at each failure."""


class Call:
    """One request to the stub, and what the test may answer."""

    def __init__(self, request: web.Request, body: dict[str, Any]) -> None:
        self.request, self.body = request, body
        self.response: web.StreamResponse | None = None
        self.cancelled = asyncio.Event()

    async def say(self, *chunks: Any) -> None:
        """Send chunks as server-sent events; a string is sent as it is."""
        if self.response is None:
            self.response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await self.response.prepare(self.request)
        for chunk in chunks:
            data = chunk if isinstance(chunk, str) else json.dumps(chunk)
            await self.response.write(f"data: {data}\n\n".encode())

    async def reply(self, body: Any) -> None:
        """Answer whole."""
        self.response = web.json_response(body)

    async def refuse(self, status: int) -> None:
        """Answer with an error, as engines that go on living do."""
        self.response = web.json_response({"error": {"message": "broken", "code": status}}, status=status)

    def hang_up(self) -> None:
        """Close the connection without a word, as an engine that dies does."""
        transport = self.request.transport
        if transport is not None:
            transport.abort()


class StubEngine:
    """Answers by the behaviour that the test has set; remembers its calls."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = say_hello
        self.calls: list[Call] = []
        self.url = ""
        self.since = 0.0

    def forget(self) -> None:
        """Begin a new count of calls."""
        self.calls.clear()
        self.since = time.time()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """POST to either of the routes that complete."""
        call = Call(request, await request.json())
        self.calls.append(call)
        try:
            await self.behaviour(call)
        except (asyncio.CancelledError, ConnectionResetError):  # the latter if it was speaking just then
            call.cancelled.set()
            raise
        return call.response or web.Response()


def delta(content: Any, finish_reason: str | None = None, index: int = 0) -> dict[str, Any]:
    """A chunk with one choice."""
    return {"choices": [{"index": index, "delta": {"content": content}, "finish_reason": finish_reason}]}


async def say_hello(call: Call) -> None:
    """Two words, as an engine in its right mind."""
    await call.say(delta("hello"), delta(" there"), delta("", "stop"), "[DONE]")


async def never(_: Call) -> None:
    """Say nothing more."""
    await asyncio.Event().wait()


@asynccontextmanager
async def stub_engine() -> AsyncIterator[StubEngine]:
    """A stub that listens."""
    engine, app = StubEngine(), web.Application()
    for path in ("/v1/chat/completions", "/v1/completions"):
        app.router.add_post(path, engine.answer)
    async with listening(app) as engine.url:
        yield engine


@asynccontextmanager
async def stack_over_stub(
    folder: Path, url: str | None = None, telemetry: dict[str, Any] | None = None, **server: Any
) -> AsyncIterator[tuple[Stack, StubEngine]]:
    async with stub_engine() as engine:
        model = {"model": str(folder / "model"), "engine": {"kind": "url", "url": engine.url}}
        changes = {"models": [model], "server": server, "pool": NO_CIRCUIT, "telemetry": telemetry or {}}
        async with running(stack_settings(folder, url, **changes)) as stack:
            yield stack, engine


@asynccontextmanager
async def asked(stack: Stack, **fields: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "stream": True} | fields
    async with (
        aiohttp.ClientSession(headers=KEY) as session,
        session.post(f"{stack.url}/v1/chat/completions", json=body) as response,
    ):
        yield response


async def events_of(response: aiohttp.ClientResponse) -> list[Any]:
    lines = [line async for line in response.content]
    data = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    return [item.decode() if item == b"[DONE]" else json.loads(item) for item in data]


async def last_record(stack: Stack, engine: StubEngine) -> Completion:
    found: Completion | None = None

    async def there() -> bool:
        nonlocal found
        async with stack.database.read() as session:
            found = await session.scalar(select(Completion).order_by(Completion.created_at.desc()).limit(1))
        return found is not None and found.created_at >= engine.since

    await stack.until(there, patient(5))
    assert found is not None
    return found


def address(stack: Stack) -> tuple[str, int]:
    return "127.0.0.1", int(stack.url.rpartition(":")[2])
