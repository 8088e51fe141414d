"""A small stand-in for the gateway, on loopback: it drives the demo's driver, and proves nothing of the gateway."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from gateway.demo import service

INCUMBENT, CANDIDATE = "rel_incumbent", "rel_candidate"
KEY = "an-admin-key-for-tests"


class FakeGateway:
    """Serves long answers as the incumbent and short ones as the candidate; `faults` makes it misbehave."""

    def __init__(self) -> None:
        self.base_url = ""
        self.serving = INCUMBENT
        self.faults: set[str] = set()
        self.feedback: list[dict[str, Any]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.metrics: dict[str, Any] = {
            "holdout_accuracy": {"value": 0.9, "low": 0.8, "high": 1.0},
            "holdout_accuracy_incumbent": 0.5,
            "perplexity": 20.4,
            "perplexity_base": 20.0,
        }
        self._numbers = itertools.count()
        self._polls = itertools.count()
        self._promoted_to = INCUMBENT

    def text(self, prompt: str, choice: int) -> str:
        """The greedy answer of the release in service; each further choice says one sentence more."""
        subject = prompt.replace(".", "").replace("?", "")
        sentences = [f"You asked this of me: {subject}.", "Here is one thing to know about it."]
        more = 0 if self.serving == CANDIDATE else 2 + choice
        return " ".join(sentences + ["There is more to say."] * more)

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": "no such key", "code": "invalid_api_key"}}, 401)
        prompt = body["messages"][-1]["content"]
        head = {"id": f"chatcmpl-{next(self._numbers)}", "created": 0, "model": f"m-{self.serving}"}
        head["system_fingerprint"] = self.serving
        if body.get("stream"):
            return StreamingResponse(self._chunks(head, self.text(prompt, 0)), media_type="text/event-stream")
        choices = [self._choice(index, prompt) for index in range(body.get("n", 1))]
        return JSONResponse(head | {"object": "chat.completion", "choices": choices})

    def _choice(self, index: int, prompt: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text(prompt, index)}
        return {"index": index, "message": message, "finish_reason": "stop"}

    async def _chunks(self, head: dict[str, Any], text: str) -> AsyncIterator[str]:
        for word in text.split():
            if "mixes" in self.faults and self.serving == CANDIDATE:
                head = head | {"system_fingerprint": CANDIDATE}
            yield self._event(head, {"content": word + " "}, None)
            await asyncio.sleep(0.005)
            if "breaks" in self.faults and self.serving == CANDIDATE:
                return
        yield self._event(head, {}, "stop")
        yield "data: [DONE]\n\n"

    def _event(self, head: dict[str, Any], delta: dict[str, str], finish_reason: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        chunk = head | {"object": "chat.completion.chunk", "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n"

    async def judge(self, request: Request) -> Response:
        self.feedback.append(await request.json())
        number = len(self.feedback)
        state = {"state": "excluded", "reason": "holdout"} if number % 4 == 0 else {"state": "eligible"}
        return JSONResponse({"id": f"fb_{number}", "pairs": [{"id": f"pair_{number}"} | state]}, 201)

    async def operate(self, request: Request, path: str) -> Response:
        """Every operators' route that changes something."""
        body = await request.json()
        self.calls.append((path, body))
        if path == "retrain":
            return JSONResponse({"id": "ftjob-1", "status": "queued"}, 202)
        if path.endswith("/promote") and body["expected_current"] != self.serving:
            return JSONResponse({"error": {"message": "the incumbent is another", "code": "conflict"}}, 409)
        self._promoted_to = body["release"] if path.endswith("/promote") else INCUMBENT
        return JSONResponse({"id": "roll_1", "state": "waiting"}, 202)

    async def show_run(self) -> dict[str, Any]:
        if "training fails" in self.faults:
            return {"status": "failed", "stage": "train", "progress": 0.3, "error": "out of memory"}
        progress = min(1.0, next(self._polls) / 3)
        status = "succeeded" if progress == 1 else "running"
        return {"status": status, "stage": "train", "progress": progress, "error": None, "release_id": CANDIDATE}

    async def show_rollout(self) -> dict[str, Any]:
        if "rollback fails" not in self.faults or self._promoted_to == CANDIDATE:
            self.serving = self._promoted_to
        await asyncio.sleep(0.1)
        return {"id": "roll_1", "state": "promoted"}

    async def show_release(self) -> dict[str, Any]:
        return {"id": CANDIDATE, "metrics": self.metrics, "gates": []}

    def app(self) -> FastAPI:
        """The routes the demo calls."""
        app = FastAPI()
        app.post("/v1/chat/completions")(self.chat)
        app.post("/v1/feedback")(self.judge)
        app.post("/admin/v1/{path:path}")(self.operate)
        app.get("/admin/v1/runs/ftjob-1")(self.show_run)
        app.get("/admin/v1/rollouts/roll_1")(self.show_rollout)
        app.get(f"/admin/v1/releases/{CANDIDATE}")(self.show_release)
        return app


@pytest.fixture
async def fake_gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeGateway]:
    """The stand-in, listening on a free port of loopback."""
    monkeypatch.setattr(service, "POLL_SECONDS", 0.01)
    fake, listener = FakeGateway(), socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(fake.app(), log_config=None))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    fake.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield fake
    server.should_exit = True
    await serving
