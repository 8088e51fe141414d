"""A chat program on loopback: keeps what it is sent, and answers as it is told."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Receiver:
    """Answers each request with the next of `answers`, the last one for good; `hangs` keeps it from answering."""

    answers: list[tuple[int, str]] = field(default_factory=lambda: [(200, "ok")])
    hangs: bool = False
    paths: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The bodies, decoded."""
        return [json.loads(body) for body in self.bodies]

    async def start(self) -> web.AppRunner:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return runner

    async def _answer(self, request: web.Request) -> web.Response:
        self.paths.append(request.path_qs)
        self.headers.append(dict(request.headers))
        self.bodies.append(await request.read())
        if self.hangs:
            await asyncio.sleep(60)
        status, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        headers = {"location": f"{self.url}/elsewhere"} if 300 <= status < 400 else None
        return web.Response(status=status, text=text, headers=headers)
