"""The data plane to any engine that speaks OpenAI's chat API over HTTP: vLLM, LMDeploy, or somebody else's server."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

from gateway.errors import UpstreamError, UpstreamRefused

CHAT_PATH = "/v1/chat/completions"
CONNECT_SECONDS = 5.0
REFUSAL_CHARACTERS = 500
"""Engines have been seen to refuse with megabytes of text."""
MAX_EVENT_BYTES = 4 << 20


class UpstreamUnreachable(UpstreamError):
    """The engine took no connection, or does not (any longer) hold the model: nothing was generated yet."""

    code = "upstream_unreachable"


class EngineClient:
    """Sends chat requests to engines; one per gateway worker."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            read_bufsize=1 << 18,
        )

    async def complete(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """A whole reply. Raises `UpstreamUnreachable`, `UpstreamRefused` or `UpstreamError`."""
        async with _translated(), self._post(url, body) as response:
            await _raise_for_status(response)
            return _decode(await response.read())

    async def stream(self, url: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a streamed reply; closing the iterator ends the generation."""
        async with _translated(), self._post(url, body) as response:
            await _raise_for_status(response)
            async for data in _events(response.content):
                if data == b"[DONE]":
                    return
                chunk = _decode(data)
                if "error" in chunk:
                    raise UpstreamError(f"The engine broke off: {_message(chunk)}")
                yield chunk
        raise UpstreamError("The engine closed the stream before its end. The answer is incomplete; ask again.")

    def _post(self, url: str, body: dict[str, Any]) -> Any:
        return self._session.post(
            url + CHAT_PATH, data=msgspec.json.encode(body), headers={"content-type": "application/json"}
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


class _translated:
    """Turns what aiohttp raises into errors of ours."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError):
            raise UpstreamUnreachable("The engine cannot be reached; it may be restarting. Try again.") from error
        if isinstance(error, aiohttp.ServerDisconnectedError):
            raise UpstreamUnreachable("The engine closed the connection; it may be restarting. Try again.") from error
        if isinstance(error, aiohttp.ClientError | OSError):
            raise UpstreamError("The engine broke off. The answer is incomplete; ask again.") from error


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The `data:` payloads of server-sent events."""
    pending = b""
    async for block in content.iter_any():
        *lines, pending = (pending + block).split(b"\n")
        if len(pending) > MAX_EVENT_BYTES:
            raise UpstreamError("The engine sent an endless line; see the engine's log.")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = _message(await response.content.read(64_000))
    if response.status == 404:
        raise UpstreamUnreachable(f"The engine does not hold the model: {text}")
    if response.status in (400, 413, 422):
        raise UpstreamRefused(text)
    raise UpstreamError(f"The engine answered {response.status}: {text}")


def _message(answer: dict[str, Any] | bytes) -> str:
    """The message in an engine's error, nested or flat, bounded."""
    try:
        body = msgspec.json.decode(answer) if isinstance(answer, bytes) else answer
    except msgspec.DecodeError:
        body = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    nested = body.get("error", body) if isinstance(body, dict) else body
    message = nested.get("message", nested) if isinstance(nested, dict) else nested
    return str(message)[:REFUSAL_CHARACTERS]


def _decode(data: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise UpstreamError("The engine sent something that is not JSON; see the engine's log.") from error
    if not isinstance(decoded, dict):
        raise UpstreamError("The engine sent something that is not a JSON object; see the engine's log.")
    return decoded
