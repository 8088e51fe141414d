"""Requests to engines by aiohttp, for what is no plain chat; loaded with the first of them, as it takes 7 MB."""

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.connector import Connection

from gateway.engines.failures import NotSent, UpstreamBrokeOff, UpstreamDisconnected, UpstreamUnreachable
from gateway.engines.keepalive import notice_when_gone
from gateway.errors import UpstreamError


class EngineSession:
    """A pool of connections. What goes wrong with them is raised as an error of ours."""

    def __init__(self, connect_seconds: float, may_send: Callable[[], bool]) -> None:
        """`may_send` is asked once a connection is there."""
        self._connect_seconds = connect_seconds
        self._session = aiohttp.ClientSession(
            connector=_Connector(may_send, limit=0, keepalive_timeout=30, socket_factory=_keepalive_socket),
            read_bufsize=1 << 18,
        )

    @asynccontextmanager
    async def post(
        self, url: str, data: bytes, headers: Mapping[str, str], silence: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response of an engine that may be silent for so many seconds."""
        timeout = aiohttp.ClientTimeout(sock_connect=self._connect_seconds, sock_read=silence, total=None)
        async with _translated(begun=False):
            response = await self._session.post(url, data=data, headers=headers, timeout=timeout)
        async with _translated(begun=True), response:
            yield response

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


class _Connector(aiohttp.TCPConnector):
    """Asks once more before a request goes out: to connect may take seconds, in which weights may be exchanged."""

    def __init__(self, may_send: Callable[[], bool], **options: Any) -> None:
        super().__init__(**options)
        self._may_send = may_send

    async def connect(self, *arguments: Any, **options: Any) -> Connection:
        """A connection, new or used. Raises `NotSent`."""
        connection = await super().connect(*arguments, **options)
        if not self._may_send():
            connection.release()
            raise NotSent("The gateway lost touch with its database for a moment. Try again.")
        return connection


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
            raise UpstreamBrokeOff() from error
        raise UpstreamDisconnected("The engine hung up before it answered; it may be restarting. Try again.") from error


def _keepalive_socket(address: Any) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    notice_when_gone(made)
    return made
