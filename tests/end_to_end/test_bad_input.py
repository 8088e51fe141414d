"""Whatever a client does wrong: a clear message in OpenAI's envelope that says what to do, and nothing is lost."""

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from sqlalchemy import func, select

from gateway.storage import keys
from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from tests.stack import Stack, running, stack_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("stack")
    async with running(stack_settings(folder)) as started:
        yield started


async def post(stack: Stack, path: str, raw: bytes, key: str | None = None) -> tuple[int, dict[str, Any]]:
    headers = {"content-type": "application/json"}
    headers |= {} if key is None else {"authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(stack.url + path, data=raw, headers=headers) as response,
    ):
        return response.status, await response.json()


async def key_with(stack: Stack, *scopes: str, project: str = keys.DEFAULT_PROJECT) -> str:
    async with stack.database.write() as session:
        owner = await keys.ensure_project(session, project)
        _, secret = await keys.create_key(session, owner.id, "test", scopes)
    return secret


def check_envelope(body: dict[str, Any], code: str, *words: str) -> None:
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    assert body["error"]["code"] == code
    for word in words:
        assert word in body["error"]["message"]


async def test_unknown_model_names_the_models_there_are(stack: Stack) -> None:
    with pytest.raises(openai.NotFoundError, match="assistant") as refused:
        await stack.ask(model="gpt-4o")
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"


async def test_a_bad_key_is_told_how_to_get_a_good_one(stack: Stack) -> None:
    with pytest.raises(openai.AuthenticationError, match="alignway keys create") as refused:
        await stack.client.with_options(api_key="sk-wrong").models.list()
    assert refused.value.code == "invalid_api_key"
    status, body = await post(stack, "/v1/chat/completions", b"{}")
    assert status == 401
    check_envelope(body, "invalid_api_key", "alignway keys create")


async def test_a_revoked_key_stops_working_within_a_second(stack: Stack) -> None:
    secret = await key_with(stack, "inference")
    client = stack.client.with_options(api_key=secret)
    await client.models.list()
    async with stack.database.write() as session:
        key = await keys.find_key(session, secret)
        assert key is not None
        await keys.revoke_key(session, key.id)
    await asyncio.sleep(1.0)
    with pytest.raises(openai.AuthenticationError, match="revoked"):
        await client.models.list()


async def test_a_missing_scope_is_named(stack: Stack) -> None:
    secret = await key_with(stack, "inference")
    status, body = await post(stack, "/admin/v1/retrain", b"{}", secret)
    assert status == 403
    check_envelope(body, "missing_scope", "`train`", "--scopes train")


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b"[" * 5000])
async def test_malformed_json_is_a_400_that_says_so(stack: Stack, raw: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/feedback"):
        status, body = await post(stack, path, raw, stack.client.api_key)
        assert status == 400
        check_envelope(body, "invalid_json")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"temperature": 9}, "temperature"),
        ({"n": 0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"extra_body": {"request_id": "mine"}}, "request_id"),
        ({"extra_body": {"chat_template": "{{ 1 }}"}}, "chat_template"),
        ({"extra_body": {"stream": "maybe"}}, "stream"),
    ],
)
async def test_a_wrong_parameter_is_named(stack: Stack, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await stack.ask(**fields)
    assert refused.value.param == param


async def test_unknown_paths_and_methods_answer_in_the_envelope(stack: Stack) -> None:
    status, body = await stack.call("GET", "/v1/nowhere")
    assert status == 404
    check_envelope(body, "unknown_url", "/v1/nowhere")
    status, body = await stack.call("DELETE", "/v1/chat/completions")
    assert status == 405
    check_envelope(body, "method_not_allowed")


async def test_a_body_over_the_limit_is_refused(stack: Stack) -> None:
    raw = b'{"model": "assistant", "messages": [{"role": "user", "content": "' + b"a" * (4 << 20) + b'"}]}'
    status, body = await post(stack, "/v1/chat/completions", raw, stack.client.api_key)
    assert status == 413
    check_envelope(body, "request_too_large", "server.body_limit_bytes")


async def test_an_unknown_completion_and_a_foreign_one_get_the_same_404(stack: Stack) -> None:
    reply = await stack.ask("whose is this?", n=2)
    stranger = stack.client.with_options(
        api_key=await key_with(stack, "inference", "feedback", "feedback:write_text", project="other")
    )
    refusals = []
    for client, completion in ((stranger, reply.id), (stack.client, "chatcmpl-unknown")):
        body = {
            "type": "preference",
            "verdict": "prefer",
            "chosen": {"completion_id": completion, "index": 0},
            "rejected": [{"completion_id": completion, "index": 1}],
        }
        with pytest.raises(openai.NotFoundError) as refused:
            await client.post("/feedback", body=body, cast_to=object)
        refusals.append((refused.value.code, refused.value.message.replace(completion, "ID")))
    assert refusals[0] == refusals[1]
    assert refusals[0][0] == "completion_not_stored"


async def test_an_unknown_feedback_id_is_a_404(stack: Stack) -> None:
    for method in ("GET", "DELETE"):
        status, body = await stack.call(method, "/v1/feedback/fb_unknown")
        assert status == 404
        assert body["error"]["message"]


async def test_store_false_is_honoured(stack: Stack) -> None:
    reply = await stack.ask("forget this", store=False)
    async with stack.database.read() as session:
        assert await session.get(Completion, reply.id) is None


async def test_a_retrain_without_pairs_says_what_is_missing(stack: Stack) -> None:
    status, body = await stack.call("POST", "/admin/v1/retrain", {"alias": "assistant"})
    assert status == 400
    check_envelope(body, "not_enough_pairs", "20", "/v1/feedback")
    status, body = await stack.call("POST", "/admin/v1/retrain", {"alias": "nobody"})
    assert status == 404
    check_envelope(body, "alias_not_found", "assistant")


async def test_a_second_retrain_is_queued_behind_the_first_and_can_be_cancelled(stack: Stack) -> None:
    body = {
        "type": "pair",
        "source": "test",
        "licence": "internal",
        "pairs": [
            {
                "input": {"messages": [{"role": "user", "content": f"imported question {number}"}]},
                "preferred_output": [{"role": "assistant", "content": f"good answer {number}"}],
                "non_preferred_output": [{"role": "assistant", "content": f"bad answer {number}"}],
            }
            for number in range(30)
        ],
    }
    status, reply = await stack.call("POST", "/v1/feedback", body)
    assert status == 201, reply
    first_status, first = await stack.call("POST", "/admin/v1/retrain", {"alias": "assistant"})
    second_status, second = await stack.call("POST", "/admin/v1/retrain", {"alias": "assistant"})
    assert (first_status, second_status) == (202, 202)
    assert (first["queue_position"], second["queue_position"]) == (0, 1)
    for run in (second, first):
        _, cancelled = await stack.call("POST", f"/admin/v1/runs/{run['id']}/cancel")
        assert cancelled["status"] == "cancelled"


async def test_promotions_that_cannot_be_are_refused_with_the_reason(stack: Stack) -> None:
    rejected = await stack.make_release("NO", state="rejected")
    good = await stack.make_release("YES")
    _, alias = await stack.call("GET", "/admin/v1/aliases/assistant")
    for body, status, code in [
        ({"release": "rel_unknown"}, 404, "release_not_found"),
        ({"release": rejected.id}, 409, "release_not_published"),
        ({"release": alias["serving_release"]}, 409, "already_serving"),
        ({"release": good.id, "expected_current": rejected.id}, 409, "stale_expected_current"),
        ({"release": good.id, "strategy": "at once"}, 400, "invalid_value"),
    ]:
        found, answer = await stack.call("POST", "/admin/v1/aliases/assistant/promote", body)
        assert found == status, answer
        check_envelope(answer, code)
    status, answer = await stack.call("POST", "/admin/v1/aliases/assistant/rollback", {})
    assert status == 409
    check_envelope(answer, "nothing_to_roll_back")


async def test_on_a_full_disk_votes_are_refused_and_answers_go_on(stack: Stack) -> None:
    """The workers' files may grow no further, as on a full disk: never a false 2xx, and no vote half-written."""
    reply = await stack.ask("before the disk is full", n=2)
    vote = {
        "type": "preference",
        "verdict": "prefer",
        "chosen": {"completion_id": reply.id, "index": 0},
        "rejected": [{"completion_id": reply.id, "index": 1}],
    }
    worker = stack.supervisor.pid("gateway-1")
    assert worker is not None
    _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (1, hard))
    try:
        status, answer = await stack.call("POST", "/v1/feedback", vote)
        assert status == 503
        check_envelope(answer, "database_unavailable")
        assert (await stack.ask("while the disk is full")).choices[0].message.content
        async with stack.database.read() as session:
            counts = [await session.scalar(select(func.count()).select_from(table)) for table in (Feedback, PairRow)]
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard, hard))
    status, answer = await stack.call("POST", "/v1/feedback", vote)
    assert status == 201, answer
    async with stack.database.read() as session:
        after = [await session.scalar(select(func.count()).select_from(table)) for table in (Feedback, PairRow)]
    assert [number - (before or 0) for number, before in zip(after, counts, strict=True) if number] == [1, 1]
