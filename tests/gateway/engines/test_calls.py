"""Control calls to an engine: what is asked, what comes back, and what goes wrong, each with its name."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.engines import calls as module
from gateway.engines.calls import CallRefused, EngineCalls
from gateway.errors import UpstreamError


@pytest.fixture
async def calls() -> AsyncIterator[EngineCalls]:
    """To an engine that tells what it was asked, and does badly on some paths."""

    async def told(request: web.Request) -> web.Response:
        return web.json_response([request.method, request.path_qs, await request.text()])

    async def refused(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no such adapter"}}, status=404)

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/base/told", told)
    app.router.add_get("/base/text", lambda _: _answer(web.Response(text="fine")))
    app.router.add_get("/base/large", lambda _: _answer(web.Response(body=b"x" * 2000)))
    app.router.add_get("/base/refused", refused)
    app.router.add_get("/base/silent", silent)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    calls = EngineCalls(f"http://{host}:{port}/base/")
    yield calls
    await calls.close()
    await runner.cleanup()


async def _answer(response: web.Response) -> web.Response:
    return response


async def test_a_call_has_its_method_path_query_and_body(calls: EngineCalls) -> None:
    assert await calls.get("/told") == ["GET", "/base/told", ""]
    assert await calls.post("/told", {"a": 1}, query={"mode": "wait"}) == ["POST", "/base/told?mode=wait", '{"a": 1}']
    assert await calls.post("/told") == ["POST", "/base/told", "{}"]
    assert await calls.get("/text") == "fine"


async def test_a_refusal_is_told_with_its_status_and_words(calls: EngineCalls) -> None:
    with pytest.raises(CallRefused, match="with 404: no such adapter") as refusal:
        await calls.get("/refused")
    assert refusal.value.answered == 404


async def test_silence_and_endless_answers_are_bounded(calls: EngineCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UpstreamError, match=r"did not answer /silent within 0\.2 s"):
        await calls.get("/silent", timeout_seconds=0.2)
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1000)
    with pytest.raises(UpstreamError, match="endless"):
        await calls.get("/large")


async def test_an_engine_that_is_away_is_named() -> None:
    with pytest.raises(UpstreamError, match=r"http://127\.0\.0\.1:1 cannot be reached for /told"):
        await EngineCalls("http://127.0.0.1:1").get("/told")
