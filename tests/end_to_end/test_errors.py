"""Every answer of every route: enveloped if it is an error, a request id always, and the SDK's right exception."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from fastapi import FastAPI
from openai import AsyncOpenAI

from gateway.app import Application
from gateway.routes.errors import install_error_handlers
from gateway.storage.keys import create_key, ensure_project
from gateway.telemetry.metrics import Metrics
from tests.stack import ADMIN_KEY, Stack, running, stack_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = {"authorization": f"Bearer {ADMIN_KEY}"}
JSON = {"content-type": "application/json"}
POSTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/feedback",
    "/admin/v1/retrain",
)
BODY_LIMIT = 5000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("errors")
    limits = {"body_limit_bytes": BODY_LIMIT, "image_body_limit_bytes": BODY_LIMIT, "header_limit_bytes": 4000}
    async with running(stack_settings(folder, server=limits)) as stack:
        yield stack


async def told(
    stack: Stack, method: str, path: str, data: Any = None, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, error and headers of an answer that must be an error in the envelope, with a request id."""
    sent = KEY | JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.request(method, path, data=data, headers=sent) as response,
    ):
        body = json.loads(await response.read())
        assert response.content_type == "application/json"
        assert body.keys() == {"error"}
        assert body["error"].keys() >= {"message", "type", "param", "code"}
        assert isinstance(body["error"]["message"], str)
        assert response.headers["x-request-id"]
        return response.status, body["error"], {name.lower(): value for name, value in response.headers.items()}


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/batches", "/v1/chat", "/V1/models", "/v1/responses/resp_1", "/x%00"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
async def test_an_unknown_path_is_404(stack: Stack, method: str, path: str) -> None:
    status, error, _ = await told(stack, method, path)
    assert (status, error["code"], error["type"]) == (404, "unknown_url", "invalid_request_error")


@pytest.mark.parametrize("path", POSTS[1:5])
async def test_a_method_that_a_route_does_not_take_is_405_and_says_which_it_does(stack: Stack, path: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        status, error, headers = await told(stack, method, path)
        assert (status, error["code"], headers["allow"]) == (405, "method_not_allowed", "POST")


async def test_all_methods_of_a_path_are_told_where_several_routes_share_it(stack: Stack) -> None:
    status, error, headers = await told(stack, "PUT", "/v1/chat/completions")
    assert (status, headers["allow"]) == (405, "GET, POST")
    assert "GET, POST" in error["message"]
    _, _, headers = await told(stack, "PATCH", "/v1/chat/completions/chatcmpl-1")
    assert headers["allow"] == "DELETE, GET, POST"


@pytest.mark.parametrize("path", [*POSTS, "/v1/models/assistant"])
async def test_a_slash_too_many_is_404_in_the_envelope_and_no_redirect(stack: Stack, path: str) -> None:
    status, error, _ = await told(stack, "GET" if "models" in path else "POST", path + "/", b"{}")
    if "models" in path:
        assert (status, error["code"]) == (404, "model_not_found")
    else:
        assert (status, error["code"]) == (404, "unknown_url")
        assert "slash at its end" in error["message"]


@pytest.mark.parametrize(("base", "told_so"), [("", "ends with `/v1`"), ("/v1/v1", "one `/v1`, not two")])
async def test_a_client_with_a_wrong_base_url_is_told_so(stack: Stack, base: str, told_so: str) -> None:
    async with AsyncOpenAI(base_url=stack.url + base, api_key=ADMIN_KEY, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match=f"`base_url` of a client .*{told_so}"):
            await client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    _, error, _ = await told(stack, "GET", "/v1/nothing")
    assert error["message"].endswith("See /openapi.json.")


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_that_is_too_large_or_no_json_is_told(stack: Stack, path: str) -> None:
    large = json.dumps({"model": "assistant", "input": "x" * BODY_LIMIT}).encode()
    met = [
        await told(stack, "POST", path, large),
        await told(stack, "POST", path, b"<a/>", content_type="text/xml"),
        await told(stack, "POST", path, b"x=1", content_type="multipart/form-data; boundary=x"),
        await told(stack, "POST", path, b"{}", content_encoding="gzip"),
        await told(stack, "POST", path, b"{"),
        await told(stack, "POST", path, b"[]"),
        await told(stack, "POST", path, b'{"model": "\xff"}'),
    ]
    assert [status for status, _, _ in met] == [413, 415, 415, 415, 400, 400, 400]
    assert [error["code"] for _, error, _ in met] == [
        "request_too_large", *["unsupported_media_type"] * 3, *["invalid_json"] * 3
    ]  # fmt: skip


@pytest.mark.parametrize("path", POSTS[:5])
async def test_a_body_that_is_nested_without_end_is_refused(stack: Stack, path: str) -> None:
    for depth in (100, 1500):
        body = b'{"model": "assistant", "input": ' + b"[" * depth + b"]" * depth + b"}"
        status, _, _ = await told(stack, "POST", path, body)
        assert status == 400


async def test_headers_that_are_too_large_are_431(stack: Stack) -> None:
    for path in ("/v1/chat/completions", "/v1/models"):
        status, error, _ = await told(stack, "GET", path, x_filler="x" * 5000)
        assert (status, error["code"]) == (431, "headers_too_large")


async def test_what_is_no_http_is_400(stack: Stack) -> None:
    host, port = stack.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"nonsense\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nx-request-id: req_" in head
    assert json.loads(body)["error"]["code"] == "invalid_http"


ROUTES = ["/v1/models", "/healthz", "/v1/nothing", "/v1/chat/completions", "/v1/responses", "/metrics", "/openapi.json"]


@pytest.mark.parametrize("path", ROUTES)
async def test_a_sane_request_id_is_echoed_and_an_odd_one_replaced(stack: Stack, path: str) -> None:
    async with aiohttp.ClientSession(stack.url, headers=KEY) as session:

        async def answered(sent: str | None) -> str:
            headers = {} if sent is None else {"X-Request-Id": sent}
            async with session.get(path, headers=headers) as response:
                assert len(response.headers.getall("x-request-id")) == 1
                return response.headers["x-request-id"]

        for sane in ("trace-1", "a" * 128, "3fa85f64:5717/b3fc+=_."):
            assert await answered(sane) == sane
        minted = [await answered(odd) for odd in (None, "", "a" * 129, "two words", "caf\u00e9")]
        assert all(own.startswith("req_") for own in minted)
        assert len(set(minted)) == len(minted)


async def test_answers_and_streams_carry_request_ids(stack: Stack) -> None:
    asking = {"model": "assistant", "extra_headers": {"X-Request-Id": "mine-1"}}
    chats, messages = stack.client.chat.completions, [{"role": "user", "content": "hi"}]
    responses, texts = stack.client.responses, stack.client.completions
    answers: list[Any] = [
        await chats.with_raw_response.create(messages=messages, **asking),  # type: ignore[call-overload]
        await chats.with_raw_response.create(messages=messages, stream=True, **asking),  # type: ignore[call-overload]
        await responses.with_raw_response.create(input="hi", **asking),
        await responses.with_raw_response.create(input="hi", stream=True, **asking),
        await texts.with_raw_response.create(prompt="hi", **asking),
        await texts.with_raw_response.create(prompt="hi", stream=True, **asking),
    ]
    for number, answer in enumerate(answers):
        assert answer.request_id == "mine-1"
        kind = "text/event-stream" if number % 2 else "application/json"
        assert answer.headers["content-type"].partition(";")[0] == kind
        if number % 2:
            assert answer.headers["cache-control"] == "no-cache"


async def test_each_error_is_the_sdk_s_right_exception(stack: Stack) -> None:
    async with stack.database.write() as session:
        project = await ensure_project(session)
        _, voter = await create_key(session, project.id, "voter", ["feedback"])
    messages: Any = [{"role": "user", "content": "hi"}]

    async def as_key(key: str, ask: str) -> openai.APIStatusError:
        async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0) as client:
            attempts: dict[str, Any] = {
                "chat": lambda: client.chat.completions.create(model="assistant", messages=messages),
                "responses": lambda: client.responses.create(model="assistant", input="hi"),
                "completions": lambda: client.completions.create(model="assistant", prompt="hi"),
                "embeddings": lambda: client.embeddings.create(model="assistant", input="hi"),
                "models": lambda: client.models.list(),
                "stored": lambda: client.chat.completions.list(),
                "unknown model": lambda: client.responses.create(model="nothing", input="hi"),
                "unknown route": lambda: client.batches.list(),
                "unknown field": lambda: client.responses.create(model="assistant", input="", extra_body={"x": 1}),
            }
            with pytest.raises(openai.APIStatusError) as caught:
                await attempts[ask]()
        assert caught.value.request_id
        return caught.value

    for ask in ("chat", "responses", "completions", "embeddings", "models", "stored"):
        error = await as_key("sk-of-nobody", ask)
        assert (type(error), error.code) == (openai.AuthenticationError, "invalid_api_key")
        error = await as_key(voter, ask)
        assert (type(error), error.code) == (openai.PermissionDeniedError, "missing_scope")
    for ask, kind, code in (
        ("unknown model", openai.NotFoundError, "model_not_found"),
        ("unknown route", openai.NotFoundError, "unknown_url"),
        ("unknown field", openai.BadRequestError, "unknown_parameter"),
    ):
        error = await as_key(ADMIN_KEY, ask)
        assert (type(error), error.code) == (kind, code)


async def test_what_nobody_foresaw_is_a_500_in_the_envelope_with_a_request_id() -> None:
    app: FastAPI = Application()
    install_error_handlers(app)
    app.state.services = type("Services", (), {"metrics": Metrics()})()

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("a bug, with a secret in its text")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/broken",
        "query_string": b"",
        "headers": [(b"x-request-id", b"r1")],
    }
    with pytest.raises(ZeroDivisionError):  # for the server's log
        await app(scope, receive, send)
    start, body = sent
    assert start["status"] == 500
    assert (b"x-request-id", b"r1") in start["headers"]
    error = json.loads(body["body"])["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "secret" not in error["message"]
