"""The real lane on a real uvicorn server, in this process, over an engine whose every byte a test decides."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import select

from gateway.app import create_app
from gateway.bootstrap import ResolvedModel
from gateway.commands.serving import prepare
from gateway.relay.lane import chat_lane
from gateway.services import Services
from gateway.storage.feedback_tables import Completion
from tests.stack import ADMIN_KEY, base_ref, stack_settings

Behaviour = Callable[["Ask"], Awaitable[None]]
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
STREAM = CHUNK % b"hel" + CHUNK % b"lo" + LAST
WHOLE = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}'


def with_length(body: bytes, status: bytes = b"200 OK", *lines: bytes) -> bytes:
    """A reply of an engine, with a content-length."""
    head = b"".join(line + b"\r\n" for line in (b"content-length: %d" % len(body), *lines))
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, head, body)


def in_chunks(body: bytes, size: int = 1 << 16, *, end: bytes = b"0\r\n\r\n") -> bytes:
    """A reply of an engine, in HTTP chunks of `size`."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return CHUNKED + b"".join(map(http_chunk, pieces)) + end


def http_chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Ask(asyncio.Protocol):
    """One connection to the engine, and the request on it."""

    def __init__(self, engine: "RawEngine") -> None:
        self._engine = engine
        self._received = bytearray()
        self._writable = asyncio.Event()
        self._writable.set()
        self._answering: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport
        self.body: dict[str, Any] = {}
        self.left = asyncio.Event()
        """The gateway closed the connection, or it broke."""
        self.sent_bytes = 0
        self.served = False
        """For tests to note what they did."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._engine.connections += 1
        if self._engine.greeting:
            self._engine.greeting(self)

    def data_received(self, data: bytes) -> None:
        if self._engine.interruption and data.startswith(b"POST"):
            self._engine.interruption(self)
        self._received += data
        head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        if found and len(rest) >= length:
            self._received.clear()
            if head.startswith(b"GET"):  # is it alive?
                self.transport.write(with_length(b""))
                return
            self.body = json.loads(rest)
            self._engine.asks.append(self)
            self._engine.bodies.append(self.body)
            self._answering = asyncio.ensure_future(self._engine.behaviour(self))

    def connection_lost(self, exc: Exception | None) -> None:
        self.left.set()
        self._writable.set()
        if self._answering is not None:
            self._answering.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def say(self, data: bytes) -> None:
        """Send bytes; as long as nobody takes them, wait."""
        self.transport.write(data)
        await asyncio.sleep(0)
        await self._writable.wait()
        self.sent_bytes += len(data)

    def hang_up(self) -> None:
        """Close the connection in good order."""
        self.transport.close()

    def reset(self) -> None:
        """Close the connection as the system does for a process that died with data unread."""
        connected = self.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def in_its_right_mind(ask: Ask) -> None:
    """A short answer, as it was asked for."""
    await ask.say(in_chunks(STREAM) if ask.body.get("stream") else with_length(WHOLE))


async def silent(_: Ask) -> None:
    """Nothing, ever."""
    await asyncio.Event().wait()


class RawEngine:
    """An engine on loopback."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = in_its_right_mind
        self.greeting: Callable[[Ask], None] | None = None
        """What is done to whoever connects, unasked."""
        self.interruption: Callable[[Ask], None] | None = None
        """What is done when a request begins."""
        self.asks: list[Ask] = []
        self.bodies: list[dict[str, Any]] = []
        self.connections = 0
        self.url = ""

    def forget(self) -> None:
        """Be in one's right mind again, and begin a new count."""
        self.behaviour, self.greeting, self.interruption = in_its_right_mind, None, None
        self.asks.clear()
        self.bodies.clear()
        self.connections = 0


@asynccontextmanager
async def raw_engine() -> AsyncIterator[RawEngine]:
    """An engine that listens."""
    engine = RawEngine()
    server = await asyncio.get_running_loop().create_server(lambda: Ask(engine), "127.0.0.1", 0)
    engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield engine
    finally:
        server.close()


class Gateway:
    """One worker, in this process."""

    def __init__(self, services: Services, engine: RawEngine, port: int, connections: set[Any]) -> None:
        self.services, self.engine, self.port, self.connections = services, engine, port, connections

    async def send(self, *blocks: bytes, seconds: float = 5.0, eof: bool = False) -> bytes:
        """Send these blocks apart, and return all that comes until the connection is closed."""
        async with self.line() as (reader, writer), asyncio.timeout(seconds):
            for block in blocks:
                writer.write(block)
                await asyncio.sleep(0)
            if eof:
                writer.write_eof()
            return await reader.read()

    @asynccontextmanager
    async def line(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def is_at_rest(self, seconds: float = 3.0) -> None:
        """Nothing is left of what went before: it answers, and holds nothing."""
        services = self.services
        async with asyncio.timeout(seconds):
            while any(self._held()) or any(origin.busy for origin in services.upstreams._origins.values()):
                await asyncio.sleep(0.01)
        assert self._held() == [0, 0, 0]
        self.engine.forget()
        assert status_of(await self.send(chat(close=True))) == 200

    def _held(self) -> list[int]:
        services = self.services
        in_flight = sum(meter.in_flight for meter in services.metrics._meters.values())
        return [len(services.drain._answering), in_flight, services.pool.in_flight.total()]

    async def record_ids(self) -> dict[str, str]:
        """The ids of all records, and how each ended."""
        async with self.services.database.read() as session:
            return {each.id: each.status for each in await session.execute(select(Completion.id, Completion.status))}

    async def records(self) -> list[Completion]:
        """What was recorded, the oldest first."""
        await asyncio.sleep(0.05)
        async with self.services.database.read() as session:
            return list(await session.scalars(select(Completion).order_by(Completion.created_at)))


@asynccontextmanager
async def gateway(folder: Path, **changes: Any) -> AsyncIterator[Gateway]:
    """A worker that serves; `changes` are merged into its settings."""
    async with raw_engine() as engine:
        model = {"model": str(folder / "model"), "engine": {"kind": "url", "url": engine.url, "model": "weights"}}
        pool = {"circuit_failures": 1_000_000, "probe_seconds": 3600}
        settings = stack_settings(folder, models=[model], pool=pool, **changes)
        settings.data_dir.mkdir(parents=True)
        resolved = ResolvedModel(str(folder / "model"), base_ref().model_dump(), "weights", "vllm")
        await prepare(settings, {"assistant": resolved})
        app, listener = create_app(settings), socket.create_server(("127.0.0.1", 0))
        lane = chat_lane(app, settings.server.header_limit_bytes, settings.server.receipt_seconds)
        server = uvicorn.Server(uvicorn.Config(app, http=lane, ws="none", lifespan="on", log_config=None))
        serving = asyncio.create_task(server._serve([listener]))
        async with asyncio.timeout(10):
            while not server.started or not app.state.services.pool.table.aliases:
                await asyncio.sleep(0.01)
        try:
            yield Gateway(app.state.services, engine, listener.getsockname()[1], server.server_state.connections)
        finally:
            server.should_exit = True
            await serving


def chat(content: str = "hi", *lines: str, close: bool = False, **fields: Any) -> bytes:
    """A chat request, with further header lines."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": content}]} | fields
    return post(json.dumps(body).encode(), *lines, close=close)


def post(body: bytes, *lines: str, close: bool = False, length: bool = True) -> bytes:
    """A request to the chat route."""
    all_lines = ["POST /v1/chat/completions HTTP/1.1", "host: gateway", f"authorization: Bearer {ADMIN_KEY}",
                 "content-type: application/json", *lines]  # fmt: skip
    all_lines += [f"content-length: {len(body)}"] * length + ["connection: close"] * close
    return "\r\n".join([*all_lines, "", ""]).encode() + body


def get(path: str = "/healthz", *lines: str) -> bytes:
    """A request that is no chat."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: gateway", *lines, "", ""]).encode()


class Answer:
    """One answer on a connection."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def code(self) -> str:
        """The code of an error in OpenAI's envelope, with all its fields."""
        error = json.loads(self.body)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return str(error["code"])

    @property
    def events(self) -> list[bytes]:
        """The events of a stream."""
        return [event.removeprefix(b"data: ") for event in self.body.split(b"\n\n") if event]


async def next_answer(reader: asyncio.StreamReader) -> Answer:
    """One whole answer. Raises `EOFError` (of which `IncompleteReadError` is one) if it is cut short."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    status, body = int(first.split()[1]), b""
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        assert await reader.readexactly(2) == b"\r\n"
    return Answer(status, headers, body)


async def answers_in(data: bytes) -> list[Answer]:
    """All answers in what came over a connection that was closed."""
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while not reader.at_eof():
        found.append(await next_answer(reader))
    return found


def status_of(data: bytes) -> int:
    """The status of the first answer."""
    return int(data.split()[1])
