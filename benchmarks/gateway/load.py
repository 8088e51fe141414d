"""The load: clients on one core that check every answer they get. Closed loop, open loop, and streams."""

import asyncio
import collections
import itertools
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httptools
import msgspec

from benchmarks.gateway.answers import NONCE_DIGITS, NONCE_MARK, WrongAnswer, check_reply, check_stream

ANSWER_SECONDS = 60.0
"""An answer that takes longer than this counts as failed."""
SYSTEM_TEXT = "You are a careful assistant. Answer briefly and name the rule you used. " * 3
USER_TEXT = "{mark}{nonce} Summarise the change log of the last release in two sentences. " * 2


@dataclass(frozen=True)
class Endpoint:
    """Where a gateway takes chat completions, and what it wants to see in a request."""

    host: str
    port: int
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = "/v1/chat/completions"
    max_tokens: int = 128


@dataclass(frozen=True)
class Answer:
    """One answer that was checked and found right."""

    seconds: float
    first_chunk_seconds: float
    """Until the first SSE event; of an answer that is not streamed, until its first byte."""
    chunks: int = 0


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answered: asyncio.Future[int] | None = None
        self.body = bytearray()
        self.headers: dict[bytes, bytes] = {}
        self.first_at = 0.0
        self.ended_at = 0.0
        self.is_open = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport, self.is_open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._fail(ConnectionError("the gateway closed the connection before the answer was whole"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def on_message_begin(self) -> None:
        """httptools: a response begins."""
        self.body, self.headers, self.first_at = bytearray(), {}, 0.0

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header of the response."""
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the body."""
        if self.first_at == 0.0:
            self.first_at = time.perf_counter()
        self.body += body

    def on_message_complete(self) -> None:
        """httptools: the response is whole."""
        self.ended_at = time.perf_counter()
        if not self._parser.should_keep_alive():
            self.close()
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(self._parser.get_status_code())

    async def send(self, request: bytes) -> int:
        """Send a request; its status once the whole answer is in `body`. Raises `ConnectionError`, `TimeoutError`."""
        if not self.is_open:
            raise ConnectionError("the gateway closed an idle connection")
        loop = asyncio.get_running_loop()
        self._answered = loop.create_future()
        timer = loop.call_later(ANSWER_SECONDS, self._fail, TimeoutError(f"no answer in {ANSWER_SECONDS:g} s"))
        try:
            self._transport.write(request)
            return await self._answered
        finally:
            timer.cancel()

    def client_port(self) -> int:
        """The port at this end, which tells the gateway's processes apart."""
        return int(self._transport.get_extra_info("sockname")[1])

    def close(self) -> None:
        """Close at once."""
        self.is_open = False
        self._transport.close()

    def _fail(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)


class Load:
    """Sends to one endpoint, checks what comes back, counts what is wrong."""

    def __init__(self, endpoint: Endpoint, chunks: int | None) -> None:
        """`chunks` of a stream if the upstream is the mock; None: a real one, whose words nobody knows."""
        self.endpoint = endpoint
        self.chunks = chunks
        self.answers = 0
        self.wrong: collections.Counter[str] = collections.Counter()
        self.without_usage = 0
        self.has_limit_headers = False
        self._numbers = itertools.count(random.randrange(10**NONCE_DIGITS // 2))

    async def connect(self) -> Connection:
        """A new connection to the gateway."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, self.endpoint.host, self.endpoint.port))[1]

    def request(self, stream: bool) -> tuple[str, bytes]:
        """A nonce and the request that carries it."""
        nonce = f"{next(self._numbers) % 10**NONCE_DIGITS:0{NONCE_DIGITS}}"
        user = USER_TEXT.format(mark=NONCE_MARK.decode(), nonce=nonce)
        messages = [{"role": "system", "content": SYSTEM_TEXT}, {"role": "user", "content": user}]
        body = {"model": self.endpoint.model, "messages": messages, "temperature": 0.7}
        body |= {"max_tokens": self.endpoint.max_tokens, "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        return nonce, post(self.endpoint, self.endpoint.path, body)

    async def ask(self, connection: Connection, stream: bool = False) -> Answer | None:
        """Send one request and check the whole answer; None if it failed or was wrong, which is counted."""
        nonce, request = self.request(stream)
        sent_at = time.perf_counter()
        try:
            status = await connection.send(request)
            if status != 200:
                raise WrongAnswer(f"status {status}: {bytes(connection.body[:120])!r}")
            chunks = self._check(bytes(connection.body), nonce, stream)
        except (WrongAnswer, OSError, httptools.HttpParserError) as error:
            self.wrong[f"{type(error).__name__}: {error}"[:200]] += 1
            return None
        self.answers += 1
        self.has_limit_headers |= b"x-ratelimit-limit-requests" in connection.headers
        return Answer(connection.ended_at - sent_at, connection.first_at - sent_at, chunks)

    def _check(self, body: bytes, nonce: str, stream: bool) -> int:
        is_mock = self.chunks is not None
        if not stream:
            check_reply(body, nonce if is_mock else None)
            return 0
        found = check_stream(body, nonce if is_mock else None, self.chunks)
        self.without_usage += not found.has_usage
        return found.chunks


def post(endpoint: Endpoint, path: str, body: object) -> bytes:
    """A POST as bytes."""
    raw = msgspec.json.encode(body)
    headers = {"host": f"{endpoint.host}:{endpoint.port}", "content-type": "application/json", **endpoint.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}content-length: {len(raw)}\r\n\r\n".encode() + raw


async def closed_loop(load: Load, connections: int, seconds: float) -> list[Answer]:
    """Every connection asks again as soon as it is answered, until the time is over."""
    until = time.perf_counter() + seconds
    return await _each(load, connections, lambda _: time.perf_counter() < until, stream=False)


async def counted(load: Load, connections: int, requests: int, stream_every: int) -> list[Answer]:
    """A closed loop of so many requests, one of `stream_every` streamed."""
    numbers = itertools.count(1)
    found: list[Answer] = []

    async def client() -> None:
        connection = await load.connect()
        while (number := next(numbers)) <= requests:
            connection = await _ask_again(load, connection, number % stream_every == 0, found)
        connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return found


async def streams(load: Load, connections: int, each: int, spread_seconds: float) -> list[Answer]:
    """Every connection reads `each` streams one after the other; they begin spread over time."""
    return await _each(load, connections, lambda asked: asked < each, stream=True, spread_seconds=spread_seconds)


async def open_loop(load: Load, rate: float, seconds: float) -> list[Answer]:
    """Requests start at a fixed rate, whether or not earlier ones have been answered."""
    idle: list[Connection] = []
    found: list[Answer] = []

    async def one() -> None:
        connection = idle.pop() if idle else await load.connect()
        connection = await _ask_again(load, connection, False, found)
        idle.append(connection)

    began, under_way = time.perf_counter(), []
    for number in range(max(1, int(rate * seconds))):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        under_way.append(asyncio.ensure_future(one()))
    await asyncio.gather(*under_way)
    for connection in idle:
        connection.close()
    return found


async def _each(
    load: Load, connections: int, goes_on: Callable[[int], bool], stream: bool, spread_seconds: float = 0.0
) -> list[Answer]:
    found: list[Answer] = []

    async def client(place: int) -> None:
        await asyncio.sleep(spread_seconds * place / connections)
        connection, asked = await load.connect(), 0
        while goes_on(asked):
            connection = await _ask_again(load, connection, stream, found)
            asked += 1
        connection.close()

    await asyncio.gather(*(client(place) for place in range(connections)))
    return found


async def _ask_again(load: Load, connection: Connection, stream: bool, found: list[Answer]) -> Connection:
    """Ask, keep the answer, and return the connection to ask on next: a new one if this one is gone."""
    answer = await load.ask(connection, stream)
    if answer is not None:
        found.append(answer)
        if connection.is_open:
            return connection
    connection.close()
    return await load.connect()
