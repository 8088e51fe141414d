"""The data plane to any engine that speaks OpenAI's chat API over HTTP: vLLM, LMDeploy, or somebody else's server."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from gateway.engines.failures import NothingGenerated as NothingGenerated
from gateway.engines.failures import ReleaseNotHeld as ReleaseNotHeld
from gateway.engines.failures import UpstreamDisconnected as UpstreamDisconnected
from gateway.engines.failures import UpstreamUnreachable as UpstreamUnreachable
from gateway.errors import UpstreamError, UpstreamRefused
from gateway.settings import UpstreamSettings

CHAT_PATH = "/v1/chat/completions"
KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""A host that vanished without a word is noticed after a minute; systems without an option do without it."""
REFUSAL_CHARACTERS = 500
"""Engines have been seen to refuse with megabytes of text."""
MAX_EVENT_BYTES = 4 << 20


class EngineClient:
    """Sends chat requests to engines; one per gateway worker."""

    def __init__(self, settings: UpstreamSettings | None = None) -> None:
        settings = settings or UpstreamSettings()
        connect = settings.connect_timeout_seconds
        self._whole = aiohttp.ClientTimeout(sock_connect=connect, sock_read=settings.reply_timeout_seconds, total=None)
        self._stream = aiohttp.ClientTimeout(sock_connect=connect, sock_read=settings.read_timeout_seconds, total=None)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, socket_factory=_keepalive_socket),
            read_bufsize=1 << 18,
        )

    async def complete(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """A whole reply. Raises `NothingGenerated`, `UpstreamRefused` or `UpstreamError`."""
        async with self._post(url, body, self._whole) as response:
            return _decode(await response.read())

    async def stream(self, url: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a streamed reply; closing the iterator ends the generation."""
        async with self._post(url, body, self._stream) as response:
            async for data in _events(response.content):
                if data == b"[DONE]":
                    return
                chunk = _decode(data)
                if "error" in chunk:
                    raise UpstreamError(f"The engine broke off: {_message(chunk)}")
                yield chunk
        raise UpstreamError("The engine closed the stream before its end. The answer is incomplete; ask again.")

    @asynccontextmanager
    async def _post(
        self, url: str, body: dict[str, Any], timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        data, headers = msgspec.json.encode(body), {"content-type": "application/json"}
        async with _translated(begun=False):
            response = await self._session.post(url + CHAT_PATH, data=data, headers=headers, timeout=timeout)
        async with _translated(begun=True), response:
            await _raise_for_status(response)
            yield response

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


@asynccontextmanager
async def _translated(*, begun: bool) -> AsyncIterator[None]:
    """Turns what aiohttp raises into errors of ours; `begun`: the engine's response has begun to arrive."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise UpstreamUnreachable("The engine cannot be reached; it may be restarting. Try again.") from error
    except aiohttp.ServerTimeoutError as error:
        raise UpstreamError("The engine said nothing for too long; see `upstream.*_timeout_seconds`.") from error
    except (aiohttp.ClientError, OSError) as error:
        if begun:
            raise UpstreamError("The engine broke off. The answer is incomplete; ask again.") from error
        raise UpstreamDisconnected("The engine hung up before it answered; it may be restarting. Try again.") from error


def _keepalive_socket(address: Any) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


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
        raise ReleaseNotHeld(f"The engine does not hold the model: {text}")
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
