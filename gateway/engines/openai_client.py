"""The data plane to any engine that speaks OpenAI's chat API over HTTP: vLLM, LMDeploy, or somebody else's server."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.engines.dialects import Dialect, dialect_of
from gateway.engines.mending import Assembly, Mending
from gateway.engines.refusals import READ_BYTES
from gateway.errors import UpstreamError
from gateway.settings import UpstreamSettings

if TYPE_CHECKING:
    import aiohttp

    from gateway.engines.engine_session import EngineSession

CHAT_PATH = "/v1/chat/completions"
MAX_EVENT_BYTES = 4 << 20

Json = dict[str, Any]


class EngineClient:
    """Sends chat requests to engines; one per gateway worker."""

    def __init__(self, settings: UpstreamSettings | None = None, may_send: Callable[[], bool] = lambda: True) -> None:
        """`may_send` is asked once a connection is there: whether what the caller knows of engines still holds."""
        self._settings, self._may_send = settings or UpstreamSettings(), may_send
        self._http: EngineSession | None = None

    async def complete(self, url: str, body: Json, kind: str = "url", traceparent: str | None = None) -> Json:
        """A whole reply of an engine of this kind. Raises `NothingGenerated`, `UpstreamRefused` or `UpstreamError`."""
        dialect = dialect_of(kind)
        told = dialect.told(body)
        mending = dialect.mending(told)
        if mending is None:
            return await self._whole(url, told, dialect, traceparent=traceparent)
        if not mending.in_stream:
            return mending.reply(await self._whole(url, told, dialect, traceparent=traceparent))
        assembly = Assembly()
        async with aclosing(self._mended(url, mending, dialect, traceparent)) as chunks:
            async for chunk in chunks:
                assembly.take(chunk)
        return assembly.reply()

    async def stream(
        self, url: str, body: Json, kind: str = "url", traceparent: str | None = None
    ) -> AsyncIterator[Json]:
        """The chunks of a streamed reply; closing the iterator ends the generation."""
        dialect = dialect_of(kind)
        told = dialect.told(body)
        mending = dialect.mending(told)
        if mending is None:
            chunks = self._chunks(url, told, dialect, traceparent=traceparent)
        else:
            chunks = self._mended(url, mending, dialect, traceparent)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def pass_on(self, url: str, path: str, body: Json, kind: str = "url", traceparent: str | None = None) -> Json:
        """A whole reply of a route that is no chat."""
        dialect = dialect_of(kind)
        return await self._whole(url, dialect.told(body), dialect, path, traceparent)

    async def pass_stream_on(
        self, url: str, path: str, body: Json, kind: str = "url", traceparent: str | None = None
    ) -> AsyncGenerator[Json]:
        """The chunks of a route that is no chat; closing the iterator ends the generation."""
        dialect = dialect_of(kind)
        async with aclosing(self._chunks(url, dialect.told(body), dialect, path, traceparent)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _whole(
        self, url: str, body: Json, dialect: Dialect, path: str = CHAT_PATH, traceparent: str | None = None
    ) -> Json:
        async with self._post(url + path, body, self._settings.reply_timeout_seconds, dialect, traceparent) as response:
            return _decode(await response.read())

    async def _chunks(
        self, url: str, body: Json, dialect: Dialect, path: str = CHAT_PATH, traceparent: str | None = None
    ) -> AsyncGenerator[Json]:
        async with self._post(url + path, body, self._settings.read_timeout_seconds, dialect, traceparent) as response:
            async for data in _events(response.content):
                if data == b"[DONE]":
                    return
                chunk = _decode(data)
                if chunk.get("error") is not None:
                    raise dialect.broken_off(chunk["error"], _asks_grammar(body))
                yield chunk
        raise UpstreamError("The engine closed the stream before its end. The answer is incomplete; ask again.")

    async def _mended(
        self, url: str, mending: Mending, dialect: Dialect, traceparent: str | None
    ) -> AsyncGenerator[Json]:
        """The chunks of a reply that needs mending; ends with a usage chunk if the engine was left before its own."""
        async with aclosing(self._chunks(url, mending.request(), dialect, traceparent=traceparent)) as chunks:
            async for chunk in chunks:
                if (mended := mending.chunk(chunk)) is not None:
                    yield mended
                if mending.cut:
                    break
        if mending.cut:
            yield {"choices": [], "usage": mending.usage(await self._probed(url, mending.probe(), dialect))}

    async def _probed(self, url: str, probe: Json, dialect: Dialect) -> Json:
        """The token counts of a probe; none if it fails: an answer that is complete does not fail over a number."""
        try:
            return (await self._whole(url, probe, dialect)).get("usage") or {}
        except UpstreamError:
            return {}

    @asynccontextmanager
    async def _post(
        self, url: str, body: Json, silence: float, dialect: Dialect, traceparent: str | None
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        """The response of an engine that may be silent for so many seconds."""
        data, headers = msgspec.json.encode(body), {"content-type": "application/json"}
        if traceparent is not None:
            headers["traceparent"] = traceparent
        async with self._session().post(url, data, headers, silence) as response:
            if response.status >= 400:
                said = await response.content.read(READ_BYTES)
                raise dialect.refusal(response.status, said, _asks_grammar(body))
            yield response

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.close()

    def _session(self) -> "EngineSession":
        """Made with the first request: chats alone never need it, nor what it loads."""
        if self._http is None:
            from gateway.engines.engine_session import EngineSession

            self._http = EngineSession(self._settings.connect_timeout_seconds, self._may_send)
        return self._http


async def _events(content: "aiohttp.StreamReader") -> AsyncIterator[bytes]:
    """The `data:` payloads of server-sent events."""
    pending = b""
    async for block in content.iter_any():
        *lines, pending = (pending + block).split(b"\n")
        if len(pending) > MAX_EVENT_BYTES:
            raise UpstreamError("The engine sent an endless line; see the engine's log.")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _asks_grammar(body: Json) -> bool:
    return body.get("response_format") is not None or bool(body.get("tools"))


def _decode(data: bytes) -> Json:
    try:
        decoded = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise UpstreamError("The engine sent something that is not JSON; see the engine's log.") from error
    if not isinstance(decoded, dict):
        raise UpstreamError("The engine sent something that is not a JSON object; see the engine's log.")
    return decoded
