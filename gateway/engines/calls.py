"""Control calls over HTTP to one engine: bounded in time and size, every failure an `UpstreamError`."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import urlencode

from gateway.contracts.ids import WEIGHTS_NAME
from gateway.engines.upstream import Origin
from gateway.errors import AlignwayError, UpstreamError

CALL_SECONDS = 60.0
MAX_ANSWER_BYTES = 16 << 20
MESSAGE_CHARACTERS = 500
"""Engines can answer with megabytes of error text; this much of it is kept."""

WORK = re.compile(r"^(?:vllm|lmdeploy):\w*(?:tokens|cache_usage)\w*[ {].*$", re.MULTILINE)
"""Counted by the part of the engine that decodes. What its HTTP server counts moves even where that part hangs."""


class CallRefused(UpstreamError):
    """The engine answered, but with an error; `answered` is its HTTP status."""

    def __init__(self, message: str, answered: int) -> None:
        super().__init__(message)
        self.answered = answered


class EngineCalls:
    """Makes requests to the engine at `url`, each on a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._origins: set[Origin] = set()

    async def get(self, path: str, timeout_seconds: float = CALL_SECONDS) -> Any:
        """The JSON that the engine answers."""
        return await self._call("GET", path, None, None, timeout_seconds)

    async def post(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Any:
        """The JSON that the engine answers; its plain text where it is no JSON."""
        return await self._call("POST", path, body or {}, query, timeout_seconds)

    async def generate_one(self, name: str, timeout_seconds: float = CALL_SECONDS) -> None:
        """Have one token generated under the model name `name`, and check that it was."""
        body = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        answer = await self.post("/v1/completions", body, timeout_seconds=timeout_seconds)
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not usage or not usage.get("completion_tokens"):
            raise UpstreamError(f"the engine at {self.url} generated no token under {name}")

    async def work_done(self) -> str:
        """The tokens and the cache in the engine's metrics: what moves while it works. Empty where it has none."""
        try:
            return "\n".join(WORK.findall(str(await self.get("/metrics"))))
        except CallRefused:
            return ""

    async def adapter_names(self) -> list[str]:
        """Names of the adapters the engine lists beside its full weights."""
        answer = await self.get("/v1/models")
        try:
            return [model["id"] for model in answer["data"] if model["id"] != WEIGHTS_NAME]
        except (KeyError, TypeError) as error:
            raise UpstreamError(f"the engine at {self.url} answered /v1/models with no list of models") from error

    async def close(self) -> None:
        """Give up the calls under way."""
        for origin in self._origins:
            origin.close()

    async def _call(
        self, method: str, path: str, body: Any, query: dict[str, str] | None, timeout_seconds: float
    ) -> Any:
        origin, answer = Origin(self.url, asyncio.get_running_loop()), _Answer()
        self._origins.add(origin)
        asked = f"{path}?{urlencode(query)}" if query else path
        try:
            async with asyncio.timeout(timeout_seconds):
                connection = await origin.connect(timeout_seconds)
                request = origin.request(method, asked, b"" if body is None else json.dumps(body).encode())
                connection.send(request, answer, patience=timeout_seconds)
                text = (await answer.body).decode(errors="replace")
        except TimeoutError as error:
            raise UpstreamError(f"the engine did not answer {path} within {timeout_seconds:g} s") from error
        except UpstreamError as error:
            raise UpstreamError(f"the engine at {self.url} cannot be reached for {path}: {error.message}") from error
        finally:
            self._origins.discard(origin)
            origin.close()
        if answer.status >= 400:
            raise CallRefused(f"the engine answered {path} with {answer.status}: {_message(text)}", answer.status)
        return _parsed(text)


class _Answer:
    """Takes one reply in."""

    def __init__(self) -> None:
        self.status = self._size = 0
        self._parts: list[bytes] = []
        self.body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def reply_began(self, status: int) -> None:
        """The head of the reply is there."""
        self.status = status

    def reply_data(self, data: bytes) -> None:
        """Some of its body."""
        self._size += len(data)
        if self._size <= MAX_ANSWER_BYTES:
            self._parts.append(data)
        else:
            self.reply_failed(UpstreamError("its answer is endless"))

    def reply_ended(self) -> None:
        """All of its body has come."""
        if not self.body.done():
            self.body.set_result(b"".join(self._parts))

    def reply_failed(self, error: AlignwayError) -> None:
        """It will not come, or not to its end."""
        if not self.body.done():
            self.body.set_exception(error)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _message(text: str) -> str:
    answer = _parsed(text)
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:MESSAGE_CHARACTERS]
