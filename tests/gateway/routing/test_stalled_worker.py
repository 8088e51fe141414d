"""A worker that was stopped for longer than its lease wakes among other weights: it must not sign for the old ones."""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import func, select

from gateway.storage.tables import GatewayWorker, Replica
from tests.stack import ADMIN_KEY, Stack, running, stack_settings

REQUESTS = 8
BODY = json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "who are you?"}]}).encode()
HEAD = (
    f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN_KEY}\r\n"
    f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\nconnection: close\r\n\r\n"
).encode()


@contextmanager
def stopped(stack: Stack, worker: str) -> Iterator[None]:
    pid = stack.supervisor.pid(worker)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    while not writable(stack):  # it was stopped in the middle of a write: let it end that first
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def writable(stack: Stack) -> bool:
    connection = sqlite3.connect(stack.settings.database_url.partition("///")[2], timeout=0.5, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


async def half_asked(
    stack: Stack, path: bytes = b"/v1/chat/completions"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request whose body is not all there: it belongs to a worker, which has not dispatched it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]))
    writer.write(HEAD.replace(b"/v1/chat/completions", path) + BODY[:-1])
    return reader, writer


async def answer_of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any]:
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.split()[1] == b"200", head + body
    answer: dict[str, Any] = json.loads(body)
    return answer


async def test_a_worker_that_slept_through_an_exchange_names_who_answers_now(tmp_path: Path, sqlite_url: str) -> None:
    async with running(stack_settings(tmp_path, sqlite_url, server={"workers": 2})) as stack:
        await stack.until(lambda: both_beat(stack))
        _, alias = await stack.call("GET", "/admin/v1/aliases/assistant")
        one = await stack.make_release("ONE")
        with stopped(stack, "gateway-2"):  # so that these belong to gateway-1
            asked = [await half_asked(stack) for _ in range(REQUESTS)]
            await asyncio.sleep(0.5)
        with stopped(stack, "gateway-1"):
            # connections made from here on are gateway-2's
            async with aiohttp.ClientSession(headers={"authorization": f"Bearer {ADMIN_KEY}"}) as session:
                path = f"{stack.url}/admin/v1/aliases/assistant/promote"
                async with session.post(path, json={"release": one.id}) as response:
                    assert response.status == 202
            await stack.until(lambda: holds(stack, one.id), 60)
            for _, writer in asked:
                writer.write(BODY[-1:])
            await asyncio.sleep(0.1)
        answers = [await asyncio.wait_for(answer_of(*pair), 30) for pair in asked]
    markers = {alias["serving_release"]: "BASE", one.id: "ONE"}
    for answer in answers:
        words = answer["choices"][0]["message"]["content"].split()
        assert {word for word in words if word.isupper()} == {markers[answer["system_fingerprint"]]}


async def test_a_worker_that_was_held_up_does_not_call_its_clients_slow(tmp_path: Path, sqlite_url: str) -> None:
    async with running(stack_settings(tmp_path, sqlite_url, server={"receipt_seconds": 1.0})) as stack:
        chat, vote = await half_asked(stack), await half_asked(stack, b"/v1/feedback")
        await asyncio.sleep(0.2)
        with stopped(stack, "gateway-1"):
            for _, writer in (chat, vote):
                writer.write(BODY[-1:])
            await asyncio.sleep(1.5)
        await asyncio.wait_for(answer_of(*chat), 30)
        assert (await asyncio.wait_for(vote[0].readline(), 30)).split()[1] == b"400"  # read, and no vote


async def both_beat(stack: Stack) -> bool:
    async with stack.database.read() as session:
        return (await session.scalar(select(func.count()).select_from(GatewayWorker))) == 2


async def holds(stack: Stack, release_id: str) -> bool:
    async with stack.database.read() as session:
        replica = await session.get_one(Replica, "assistant-1")
    return replica.weights_release_id == release_id and replica.swap_state is None
