"""What an engine's trouble is called decides whether a request is sent again, and how often."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.engines.failures import NothingGenerated, ReleaseNotHeld, UpstreamDisconnected, UpstreamUnreachable
from gateway.engines.openai_client import EngineClient
from gateway.errors import UpstreamError
from gateway.settings import UpstreamSettings
from tests.gateway.engines.conftest import serve

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def engine(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner, url = await serve(app)
    try:
        yield url
    finally:
        await runner.cleanup()


async def error_from(url: str, *, streamed: bool, settings: UpstreamSettings | None = None) -> UpstreamError:
    client = EngineClient(settings)
    try:
        with pytest.raises(UpstreamError) as raised:
            await (drained(client, url) if streamed else client.complete(url, {}))
    finally:
        await client.close()
    return raised.value


async def drained(client: EngineClient, url: str) -> None:
    async for _ in client.stream(url, {}):
        pass


async def begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b'data: {"choices": []}\n\n')
    return response


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_refused_connection_costs_nothing_and_may_be_tried_again(streamed: bool) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await error_from(f"http://127.0.0.1:{unused.getsockname()[1]}", streamed=streamed)
    assert isinstance(error, UpstreamUnreachable)
    assert error.max_attempts == 5


@pytest.mark.parametrize("streamed", [True, False])
async def test_hanging_up_after_the_request_was_sent_allows_one_more_attempt_only(streamed: bool) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with engine(hang_up) as url:
        error = await error_from(url, streamed=streamed)
    assert isinstance(error, UpstreamDisconnected)
    assert error.max_attempts == 2


async def test_a_missing_model_is_no_missing_engine() -> None:
    async def unknown(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no such model"}}, status=404)

    async with engine(unknown) as url:
        error = await error_from(url, streamed=True)
    assert isinstance(error, ReleaseNotHeld)
    assert not isinstance(error, UpstreamUnreachable)


async def test_breaking_off_once_the_answer_began_is_never_tried_again() -> None:
    async def die(request: web.Request) -> web.StreamResponse:
        response = await begun(request)
        assert request.transport is not None
        request.transport.abort()
        return response

    async with engine(die) as url:
        error = await error_from(url, streamed=True)
    assert not isinstance(error, NothingGenerated)


@pytest.mark.parametrize("at_once", [True, False])
async def test_silence_between_chunks_is_given_up(at_once: bool) -> None:
    async def fall_silent(request: web.Request) -> web.StreamResponse:
        if not at_once:
            await begun(request)
        await asyncio.Event().wait()
        return web.Response()

    async with engine(fall_silent) as url:
        settings = UpstreamSettings(read_timeout_seconds=0.2)
        error = await asyncio.wait_for(error_from(url, streamed=True, settings=settings), 5)
    assert not isinstance(error, NothingGenerated)
    assert "timeout" in error.message


async def test_a_host_that_vanishes_is_noticed() -> None:
    options: list[int] = []

    async def answer(_: web.Request) -> web.StreamResponse:
        for connection in client._session()._session.connector._acquired:  # type: ignore[union-attr]
            transport = connection.transport
            assert transport is not None
            options.append(transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        return web.json_response({"choices": []})

    client = EngineClient()
    async with engine(answer) as url:
        await client.complete(url, {})
    await client.close()
    assert options == [1]


@pytest.mark.parametrize("stop", [[], ["x"]], ids=["as it is", "mended"])
async def test_the_trace_goes_on_to_the_engine(stop: list[str]) -> None:
    told: list[str | None] = []
    choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}

    async def speak(request: web.Request) -> web.StreamResponse:
        told.append(request.headers.get("traceparent"))
        asked = await request.json()
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "hi"}
            return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\ndata: [DONE]\n\n")
        return response

    client, trace = EngineClient(), f"00-{'a' * 32}-{'b' * 16}-01"
    body = {"messages": [{"role": "user", "content": "x"}]} | ({"stop": stop} if stop else {})
    async with engine(speak) as url:
        await client.complete(url, body, "lmdeploy", trace)
        async for _ in client.stream(url, body | {"stream": True}, "lmdeploy", trace):
            pass
    await client.close()
    assert len(told) >= 2
    assert set(told[:2]) == {trace}
