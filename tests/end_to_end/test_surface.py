"""The routes beside chat, as the openai SDK meets them: a running stack, its real client, its own types."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.responses import Response
from pydantic import BaseModel

from gateway.commands.serving import resolve_model
from gateway.settings import ModelSettings
from gateway.storage.keys import KeyTerms, create_key, ensure_project
from tests.end_to_end.vector_engine import vector_engine, vector_of
from tests.stack import ADMIN_KEY, Stack, running, stack_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = {"authorization": f"Bearer {ADMIN_KEY}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A chat model, one for embeddings, one for rankings, and one whose engine is not there."""
    folder: Path = tmp_path_factory.mktemp("surface")
    async with vector_engine() as url:
        vectors = {"kind": "url", "url": url, "model": "vectors-1"}
        nobody = {"kind": "url", "url": "http://127.0.0.1:9", "model": "nobody"}
        models = [
            {"model": str(folder / "model"), "engine": {"kind": "scripted"}},
            {"alias": "embedder", "task": "embed", "engine": vectors},
            {"alias": "ranker", "task": "rerank", "engine": vectors},
            {"alias": "absent", "task": "embed", "engine": nobody},
        ]
        async with running(stack_settings(folder, models=models)) as stack:
            yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncOpenAI:
    return stack.client


async def correct(stack: Stack, completion_id: str) -> tuple[int, dict[str, Any]]:
    """Vote on a completion at once."""
    target = {"completion_id": completion_id, "index": 0}
    message = {"role": "assistant", "content": "What it should have been."}
    return await stack.call("POST", "/v1/feedback", {"type": "correction", "target": target, "message": message})


class Answer(BaseModel):
    word: str


# ---- responses


async def test_a_response_is_the_sdk_s_and_can_be_voted_on_at_once(stack: Stack, client: AsyncOpenAI) -> None:
    response = await client.responses.create(model="assistant", input="hello [words:3]", metadata={"team": "a"})
    Response.model_validate(response.to_dict(), strict=True)
    assert response.id.startswith("resp_")
    assert response.output_text.split()[0] == "BASE"
    assert len(response.output_text.split()) == 3
    assert response.model.startswith("assistant-2")
    assert response.usage is not None
    assert response.usage.output_tokens == 3
    status, vote = await correct(stack, response.id)
    assert (status, vote["status"]) == (201, "active")
    stored = await client.chat.completions.retrieve(response.id)
    assert (stored.choices[0].message.content, stored.metadata) == (response.output_text, {"team": "a"})


async def test_a_streamed_response_can_be_voted_on_at_once(stack: Stack, client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="assistant", input="hello [words:4]", instructions="Be brief.") as stream:
        events = [event async for event in stream]
        response = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == response.output_text
    assert len(response.output_text.split()) == 4
    assert (await correct(stack, response.id))[0] == 201
    messages = [one async for one in client.chat.completions.messages.list(response.id)]
    assert [(one.role, one.content) for one in messages] == [("system", "Be brief."), ("user", "hello [words:4]")]


async def test_a_response_cut_by_its_limit_is_incomplete(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model="assistant", input="hello [words:9]", max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_a_response_that_is_not_stored_cannot_be_voted_on(stack: Stack, client: AsyncOpenAI) -> None:
    response = await client.responses.create(model="assistant", input="hello", store=False)
    status, error = await correct(stack, response.id)
    assert (status, error["error"]["code"]) == (404, "completion_not_stored")


async def test_a_vote_on_a_deleted_completion_is_404(stack: Stack, client: AsyncOpenAI) -> None:
    completion = await stack.ask()
    await client.chat.completions.delete(completion.id)
    status, error = await correct(stack, completion.id)
    assert (status, error["error"]["code"]) == (404, "completion_not_stored")


async def test_what_keeps_state_is_refused_by_name(client: AsyncOpenAI) -> None:
    for fields in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="assistant", input="hello", **fields)
        assert (caught.value.param, caught.value.code) == (next(iter(fields)), "unsupported_parameter")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="assistant", input="hello", tools=[{"type": "web_search"}])
    assert caught.value.param == "tools[0].type"
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="assistant", input="hello", max_output_tokens=0)
    assert caught.value.param == "max_output_tokens"


async def test_the_sdk_s_parse_sends_a_schema_that_passes(client: AsyncOpenAI) -> None:
    # The scripted engine writes words, not JSON: what must pass is the request.
    response = await client.responses.with_raw_response.parse(model="assistant", input="hello", text_format=Answer)
    assert response.status_code == 200


# ---- legacy completions


async def test_a_text_completion_is_the_sdk_s(client: AsyncOpenAI) -> None:
    reply = await client.completions.create(
        model="assistant", prompt=["one [words:6]", "two [words:2]"], n=2, max_tokens=3, extra_body={"top_k": 5}
    )
    Completion.model_validate(reply.to_dict(), strict=True)
    assert reply.id.startswith("cmpl-")
    assert (reply.system_fingerprint or "").startswith("rel_")
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert [len(choice.text.split()) for choice in reply.choices] == [3, 3, 2, 2]
    assert [choice.finish_reason for choice in reply.choices] == ["length", "length", "stop", "stop"]
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 10
    assert "stop_reason" not in reply.choices[0].to_dict()


async def test_a_streamed_text_completion_ends_with_usage(client: AsyncOpenAI) -> None:
    whole = await client.completions.create(model="assistant", prompt="one [words:5]")
    chunks = [
        chunk
        async for chunk in await client.completions.create(
            model="assistant", prompt="one [words:5]", stream=True, stream_options={"include_usage": True}
        )
    ]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.choices[0].text
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_text_completion_is_recorded_nowhere(stack: Stack, client: AsyncOpenAI) -> None:
    reply = await client.completions.create(model="assistant", prompt="one")
    status, error = await correct(stack, reply.id)
    assert (status, error["error"]["code"]) == (404, "completion_not_stored")


# ---- embeddings and rankings


async def test_embeddings_pass_in_both_encodings(client: AsyncOpenAI) -> None:
    texts = ["a cat", "a dog sat"]
    encoded = await client.embeddings.create(model="embedder", input=texts)  # the SDK asks for base64, and decodes it
    plain = await client.embeddings.create(model="embedder", input=texts, encoding_format="float", user="u")
    few = await client.embeddings.create(model="embedder", input="a cat", dimensions=2, encoding_format="float")
    for reply in (encoded, plain):
        assert [item.embedding for item in reply.data] == [vector_of(text) for text in texts]
    CreateEmbeddingResponse.model_validate(plain.to_dict(), strict=True)
    assert (plain.model, plain.usage.to_dict()) == ("embedder", {"prompt_tokens": 5, "total_tokens": 5})
    assert plain.data[0].to_dict().keys() == {"object", "index", "embedding"}
    assert few.data[0].embedding == vector_of("a cat")[:2]


async def test_documents_are_ranked(stack: Stack) -> None:
    body = {"model": "ranker", "query": "small cat", "documents": ["a dog", "a small cat", "a cat"], "top_n": 2}
    status, reply = await stack.call("POST", "/v1/rerank", body)
    assert status == 200
    assert [(one["index"], one["document"]["text"], one["relevance_score"]) for one in reply["results"]] == [
        (1, "a small cat", 1.0),
        (2, "a cat", 0.5),
    ]
    assert reply["model"] == "ranker"


async def test_a_model_is_only_asked_for_what_it_does(client: AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    for attempt in (
        client.embeddings.create(model="assistant", input="a"),
        client.embeddings.create(model="ranker", input="a"),
        client.chat.completions.create(model="embedder", messages=messages),
        client.responses.create(model="embedder", input="a"),
        client.completions.create(model="embedder", prompt="a"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await attempt
        assert (caught.value.param, caught.value.code) == ("model", "wrong_task")
    with pytest.raises(openai.BadRequestError, match="chat/completions, /v1/responses and /v1/completions alone"):
        await client.embeddings.create(model="assistant", input="a")
    with pytest.raises(openai.NotFoundError) as missing:
        await client.embeddings.create(model="nothing", input="a")
    assert missing.value.code == "model_not_found"


async def test_embeddings_are_counted_like_answers(stack: Stack, client: AsyncOpenAI) -> None:
    async def prompt_tokens() -> float:
        async with aiohttp.ClientSession() as session, session.get(f"{stack.url}/metrics", headers=KEY) as response:
            lines = (await response.text()).splitlines()
        name = "alignway_prompt_tokens_total{"
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name) and '"embedder"' in line)

    before = await prompt_tokens()
    await client.embeddings.create(model="embedder", input="one two three")

    async def counted() -> bool:
        return await prompt_tokens() == before + 3

    await stack.until(counted, 10)


async def test_limits_of_a_key_hold_over_all_routes_together(stack: Stack) -> None:
    async with stack.database.write() as session:
        project = await ensure_project(session)
        terms = KeyTerms(requests_per_minute=3)
        _, secret = await create_key(session, project.id, "slow", ["inference"], terms=terms)
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=secret, max_retries=0) as slow:

        def attempts() -> list[Any]:
            return [
                slow.embeddings.with_raw_response.create(model="embedder", input="a"),
                slow.responses.with_raw_response.create(model="assistant", input="a"),
                slow.completions.with_raw_response.create(model="assistant", prompt="a"),
            ]

        for attempt in attempts():
            assert (await attempt).headers["x-ratelimit-limit-requests"] == "3"
        for attempt in attempts():
            with pytest.raises(openai.RateLimitError) as caught:
                await attempt
            assert int(caught.value.response.headers["retry-after"]) >= 1


# ---- models


async def test_models_are_the_sdk_s(stack: Stack, client: AsyncOpenAI) -> None:
    models = [model async for model in client.models.list()]
    for model in models:
        Model.model_validate(model.to_dict(), strict=True)
    assert [model.id for model in models] == ["absent", "assistant", "embedder", "ranker"]
    every = [model.id async for model in client.models.list(extra_query={"releases": "true"})]
    (release,) = set(every) - {model.id for model in models}  # what is only passed on has none
    assert release.startswith("assistant-2")
    assert (await client.models.retrieve("embedder")).id == "embedder"
    assert (await client.models.retrieve(release)).owned_by == "alignway"
    for unknown in ("nothing", "a/b", "embedder-1"):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve(unknown)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_model_that_is_only_passed_on_is_neither_trained_nor_promoted(stack: Stack) -> None:
    status, run = await stack.call("POST", "/admin/v1/retrain", {"dry_run": True})
    assert (status, run["alias"]) == (202, "assistant")
    for path, body in (
        ("/admin/v1/retrain", {"alias": "embedder"}),
        ("/admin/v1/aliases/embedder/promote", {"release": "x"}),
        ("/admin/v1/aliases/embedder/rollback", {}),
    ):
        status, error = await stack.call("POST", path, body)
        assert (status, error["error"]["code"]) == (400, "wrong_task")
    _, aliases = await stack.call("GET", "/admin/v1/aliases")
    tasks = {alias["id"]: alias["task"] for alias in aliases["data"]}
    assert tasks == {"absent": "embed", "assistant": "chat", "embedder": "embed", "ranker": "rerank"}


async def test_an_engine_given_by_url_says_itself_what_it_serves() -> None:
    async with vector_engine() as url:
        model = ModelSettings.model_validate({"task": "embed", "engine": {"kind": "url", "url": url}})
        assert (await asyncio.to_thread(resolve_model, model)).weights_name == "vectors-1"


# ---- engines that fail, clients that leave


async def test_an_engine_that_is_not_there_is_a_502_then_a_503(client: AsyncOpenAI) -> None:
    met = set()
    for _ in range(8):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.embeddings.create(model="absent", input="a")
        met.add((caught.value.status_code, caught.value.code))
    assert met <= {(502, "upstream_unreachable"), (503, "circuit_open"), (503, "no_replica_ready")}
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "[stall]"}),
        ("/v1/responses", {"input": "[stall]", "stream": True}),
        ("/v1/completions", {"prompt": "[stall]"}),
        ("/v1/completions", {"prompt": "[stall]", "stream": True}),
    ],
)
async def test_a_client_that_leaves_ends_the_generation(stack: Stack, path: str, body: dict[str, Any]) -> None:
    _, replicas = await stack.call("GET", "/admin/v1/replicas")
    url = next(replica["url"] for replica in replicas["data"] if replica["alias"] == "assistant")

    async def running_are(number: int) -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
            lines = (await response.text()).splitlines()
        name = "vllm:num_requests_running "
        return [float(line.removeprefix(name)) for line in lines if line.startswith(name)] == [number]

    async with aiohttp.ClientSession(stack.url, headers=KEY) as session:
        asking = asyncio.create_task(session.post(path, json={"model": "assistant"} | body))
        await stack.until(lambda: running_are(1), 10)
        asking.cancel()
    await stack.until(lambda: running_are(0), 2)


async def test_an_engine_that_dies_in_mid_stream_is_told_and_nothing_completes(stack: Stack) -> None:
    said = {}
    for path, body in (("/v1/responses", {"input": "[die]"}), ("/v1/completions", {"prompt": "[die]"})):
        await stack.until(lambda: generates(stack))
        fields = {"model": "assistant", "stream": True} | body
        async with (
            aiohttp.ClientSession(stack.url, headers=KEY) as session,
            session.post(path, json=fields) as response,
        ):
            assert (response.status, response.content_type) == (200, "text/event-stream")
            lines = [line[6:] async for line in response.content if line.startswith(b"data: ")]
        assert b"[DONE]\n" not in lines
        said[path] = [json.loads(line) for line in lines]
    *_, failed = said["/v1/responses"]
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"]["code"] == "server_error"
    assert not {"response.completed", "response.incomplete"} & {event["type"] for event in said["/v1/responses"]}
    *chunks, error = said["/v1/completions"]
    assert error["error"]["type"] == "server_error"
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk["choices"])
    _, votes = await correct(stack, failed["response"]["id"])
    assert votes.get("error", {}).get("code") != "completion_not_stored"  # what was said is on record, as failed


async def generates(stack: Stack) -> bool:
    """Whether the engine is back."""
    try:
        await stack.ask("hello [words:1]")
    except openai.InternalServerError:
        return False
    return True
