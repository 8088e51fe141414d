"""Clients that read slowly or send oddly, over a running worker: they cost memory, engines and others nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.end_to_end.engine_stub import Call, StubEngine, delta, never, stack_over_stub
from tests.stack import ADMIN_KEY, Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
STALL_SECONDS = 2.0
LONG = "x" * (12 << 20)
"""More than any socket buffers."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, StubEngine]]:
    async with stack_over_stub(tmp_path_factory.mktemp("peers"), stall_seconds=STALL_SECONDS) as made:
        yield made


class Peer:
    """One connection, by hand."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def __aenter__(self) -> "Peer":
        host, _, port = self._stack.url.removeprefix("http://").partition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def send(self, method: str, path: str, body: bytes | None = None, *headers: str, key: str = ADMIN_KEY) -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: x", f"authorization: Bearer {key}", *headers]
        if body is not None:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    async def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines)

    async def whole(self) -> tuple[int, Any]:
        status, headers = await self.head()
        if "content-length" in headers:
            return status, json.loads(await self.reader.readexactly(int(headers["content-length"])))
        return status, await self.reader.readuntil(b"\r\n0\r\n\r\n")


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "hi"}]} | fields).encode()


async def pour(call: Call) -> None:
    while True:
        await call.say(delta("y" * 65536))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions?by=application", "/v1/responses"])
async def test_a_client_that_takes_nothing_is_cut_off_on_every_route(both: tuple[Stack, StubEngine], path: str) -> None:
    stack, engine = both
    engine.forget()
    engine.behaviour = pour
    body = json.dumps({"model": "assistant", "input": "hi", "stream": True}).encode()
    async with Peer(stack) as peer:
        peer.send("POST", path, body if path == "/v1/responses" else chat(stream=True))
        async with asyncio.timeout(STALL_SECONDS + 3):
            while not engine.calls:
                await asyncio.sleep(0.02)
            await engine.calls[0].cancelled.wait()


async def test_a_client_that_catches_up_during_a_chat_is_served_on_by_other_routes(
    both: tuple[Stack, StubEngine],
) -> None:
    stack, engine = both
    engine.forget()

    async def long(call: Call) -> None:
        await call.reply({"choices": [{"message": {"content": LONG}, "finish_reason": "stop"}]})

    go_on = asyncio.Event()

    async def wait(call: Call) -> None:
        await go_on.wait()
        await call.say(delta("done"), delta("", "stop"), "[DONE]")

    engine.behaviour = long
    async with Peer(stack) as peer, asyncio.timeout(20):
        peer.send("POST", "/v1/chat/completions", chat(metadata={"peer": "slow"}))
        status, reply = await peer.whole()
        assert status == 200
        peer.send("GET", f"/v1/chat/completions/{reply['id']}")  # as long, written by the application
        await asyncio.sleep(0.5)
        engine.behaviour = wait
        peer.send("POST", "/v1/chat/completions", chat(stream=True))
        while len(engine.calls) < 2:
            await asyncio.sleep(0.02)
        status, stored = await peer.whole()  # only now: what was written is taken while a chat is on
        assert (status, stored["id"]) == (200, reply["id"])
        go_on.set()
        status, stream = await peer.whole()
        assert status == 200
        assert b"[DONE]" in stream
        peer.send("GET", "/v1/models")
        assert (await asyncio.wait_for(peer.whole(), 5))[0] == 200


async def test_a_body_in_a_million_pieces_takes_no_more_memory_than_its_size(both: tuple[Stack, StubEngine]) -> None:
    stack, engine = both
    engine.forget()
    engine.behaviour = never
    before = resident_bytes(stack)
    async with Peer(stack) as peer:
        peer.send("GET", "/v1/models")  # a key that is known is answered by the hot route
        await peer.whole()
        peer.send("POST", "/v1/chat/completions", None, "content-type: application/json", "transfer-encoding: chunked")
        for _ in range(15):
            peer.writer.write(b"2\r\nab\r\n" * 100_000)
            await peer.writer.drain()
        await asyncio.sleep(1.0)
        assert resident_bytes(stack) - before < 30 << 20
        peer.writer.write(b"0\r\n\r\n")
        assert (await peer.whole())[0] == 400


async def test_nobody_sends_a_large_body_before_it_is_known_who_sends_it(both: tuple[Stack, StubEngine]) -> None:
    async with Peer(both[0]) as peer:
        peer.send("POST", "/v1/chat/completions", None, "content-length: 20000000", key="sk-nobody")
        assert (await asyncio.wait_for(peer.head(), 5))[0] == 401


async def test_a_new_key_with_images_sends_a_large_body_at_once(both: tuple[Stack, StubEngine]) -> None:
    stack, _ = both
    _, key = await stack.call("POST", "/admin/v1/keys", {"name": "seer", "images": True})
    async with Peer(stack) as peer:
        peer.send("POST", "/v1/chat/completions", chat(user="x" * (5 << 20)), key=key["key"])
        status, body = await asyncio.wait_for(peer.whole(), 10)
    assert (status, body["error"]["param"]) == (400, "user")  # received whole, and read


def resident_bytes(stack: Stack) -> int:
    worker = stack.supervisor._processes["gateway-1"]
    fields = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return int(next(line for line in fields if line.startswith("VmRSS")).split()[1]) << 10
