"""An endpoint that judges, and an engine that answers twice, both as a test says."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.gateway.relay.served import Ask, with_length

SIDES = re.compile(r"<left>\n(.*?)\n</left>.*<right>\n(.*?)\n</right>", re.DOTALL)
Says = Callable[[str, str], str | int]


class Endpoint:
    """Replies as its rule says: a word, or a number for a status."""

    def __init__(self) -> None:
        self.says: Says = lambda left, right: "tie"
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.at_once = self.most_at_once = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("authorization"))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        found = SIDES.search(body["messages"][0]["content"])
        assert found is not None
        said = self.says(*found.groups())
        if isinstance(said, int):
            return web.json_response({"error": {"message": "no"}}, status=said)
        return web.json_response({"choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]})


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Endpoint]:
    """A judge that listens."""
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", endpoint.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield endpoint
    await runner.cleanup()


def longer(left: str, right: str) -> str:
    """Prefers the longer answer, wherever it stands."""
    if len(left) == len(right):
        return "tie"
    return "left" if len(left) > len(right) else "right"


def says(text: str, finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return with_length(json.dumps({"choices": [choice]}).encode())


def first_then_second(first: str, second: str) -> Callable[[Ask], Awaitable[None]]:
    """Chats of clients have no seed here; those of the gateway have."""

    async def behave(ask: Ask) -> None:
        await ask.say(says(second if "seed" in ask.body else first))

    return behave
