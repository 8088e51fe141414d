"""Chats with LMDeploy's real API server, over an engine that generates, through the client: nothing of it shows."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from gateway.contracts.ids import WEIGHTS_NAME
from gateway.engines.failures import NothingGenerated, ReleaseNotHeld, UpstreamUnavailable
from gateway.engines.openai_client import EngineClient
from gateway.errors import InvalidRequest, UpstreamRefused
from tests.gateway.engines.lmdeploy_servers import (
    TOKENS,
    Server,
    engine_counts,
    start,
    wait_until_up,
    write_model,
    write_python,
)
from tests.gateway.engines.test_lmdeploy import post
from tests.patience import patient

pytestmark = pytest.mark.lmdeploy

STEP_SECONDS = 0.01
KIND = "lmdeploy"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a tiny random model, one character per token, slow enough to be left in the middle."""
    folder = tmp_path_factory.mktemp("lmdeploy")
    model = write_model(folder / "model", 1)
    server = start("transformers", write_python(folder), model, folder / "log", STEP_SECONDS)
    try:
        wait_until_up(server)
        yield server
    finally:
        server.process.terminate()
        server.process.wait(30)


@pytest.fixture
async def client() -> AsyncIterator[EngineClient]:
    client = EngineClient()
    yield client
    await client.close()


def ask(**fields: Any) -> Json:
    messages = [{"role": "user", "content": "Say hello."}]
    return {"model": WEIGHTS_NAME, "messages": messages, "max_tokens": 12, "temperature": 0, **fields}


async def said(client: EngineClient, server: Server, **fields: Any) -> str:
    reply = await client.complete(server.url, ask(**fields), KIND)
    return str(reply["choices"][0]["message"]["content"])


async def streamed(client: EngineClient, server: Server, **fields: Any) -> tuple[list[Json], Json]:
    """The choices of every chunk, and the usage."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = [chunk async for chunk in client.stream(server.url, ask(**fields, **options), KIND)]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert len(usages) == 1
    return choices, usages[0]


async def active(server: Server) -> int:
    """How many requests the engine is at."""
    return (await asyncio.to_thread(engine_counts, server.log))[0]


async def cut_off(server: Server) -> int:
    """How many requests the engine was told to leave before their end, once it is at none."""
    async with asyncio.timeout(patient(1)):
        while await active(server):
            await asyncio.sleep(0.02)
    return (await asyncio.to_thread(engine_counts, server.log))[1]


async def test_a_stream_says_what_the_whole_reply_says(client: EngineClient, server: Server) -> None:
    choices, usage = await streamed(client, server)
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == await said(client, server)
    assert [choice.get("finish_reason") for choice in choices if choice.get("finish_reason")] == ["length"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 12, 22)


async def test_a_stop_over_several_tokens_ends_the_answer(client: EngineClient, server: Server) -> None:
    text = await said(client, server)
    stop = text[4:7]  # three tokens, as each is one character
    place = text.find(stop)
    reply = await client.complete(server.url, ask(stop=["no such text", stop]), KIND)
    (choice,) = reply["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text[:place], "stop")
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (10, place + 3)
    choices, usage = await streamed(client, server, stop=stop)
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == text[:place]
    assert (choices[-1]["finish_reason"], usage) == ("stop", reply["usage"])


async def test_the_engine_is_left_at_a_stop(client: EngineClient, server: Server) -> None:
    text = await said(client, server)
    before = await cut_off(server)
    reply = await client.complete(server.url, ask(stop=text[2:4], max_tokens=240), KIND)
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert await cut_off(server) == before + 1


async def test_log_probabilities_name_text_and_have_the_chosen_token_among_them(
    client: EngineClient, server: Server
) -> None:
    reply = await client.complete(server.url, ask(logprobs=True, top_logprobs=3), KIND)
    (choice,) = reply["choices"]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    for token in tokens:
        assert bytes(token["bytes"]).decode() == token["token"]
        best = token["top_logprobs"]
        assert len(best) == 3
        assert best[0]["token"] == token["token"]  # at temperature 0
        assert [top["logprob"] for top in best] == sorted((top["logprob"] for top in best), reverse=True)
    choices, _ = await streamed(client, server, logprobs=True, top_logprobs=3)
    assert [token for choice in choices for token in (choice.get("logprobs") or {}).get("content") or ()] == tokens


async def test_several_choices_come_whole_and_streamed(client: EngineClient, server: Server) -> None:
    body = ask(n=2, temperature=1, seed=5)
    reply = await client.complete(server.url, body, KIND)
    texts = [choice["message"]["content"] for choice in reply["choices"]]
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]
    assert texts[0] != texts[1]
    assert reply["usage"]["completion_tokens"] == 24
    choices, usage = await streamed(client, server, n=2, temperature=1, seed=5)
    for index in (0, 1):
        pieces = [choice["delta"].get("content") or "" for choice in choices if choice["index"] == index]
        assert "".join(pieces) == texts[index]
    assert usage["completion_tokens"] == 24


async def test_a_seed_repeats_an_answer(client: EngineClient, server: Server) -> None:
    texts = [await said(client, server, temperature=1, seed=seed) for seed in (7, 7, -7)]
    assert texts[0] == texts[1] != texts[2]


async def test_logit_bias_decides(client: EngineClient, server: Server) -> None:
    number = 3 + ord("Z") - 0x21  # after the three special tokens
    assert await said(client, server, logit_bias={str(number): 100}) == "Z" * 12


async def test_a_choice_of_json_is_json(client: EngineClient, server: Server) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    no_spaces = {str(len(TOKENS) - 1): -100}
    text = await said(client, server, response_format=form, logit_bias=no_spaces, max_tokens=40)
    assert text == '{"a":"x"}'


async def test_the_developer_counts_as_the_system(client: EngineClient, server: Server) -> None:
    question = {"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]}
    texts = [
        await said(client, server, messages=[{"role": role, "content": "Be brief."}, question])
        for role in ("developer", "system")
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"messages": [{"role": "user", "content": "a" * 300}]}, "messages", "context_length_exceeded"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "invalid_request"),
        ({"top_p": 7}, "top_p", "invalid_request"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_parameter"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}}},
            "response_format",
            "invalid_request",
        ),
    ],
)
async def test_refusals_are_the_clients_400(
    client: EngineClient, server: Server, change: Json, param: str, code: str, streams: bool
) -> None:
    with pytest.raises(UpstreamRefused) as raised:
        await (streamed(client, server, **change) if streams else said(client, server, **change))
    error = raised.value
    assert (error.status, error.param, error.code) == (400, param, code)
    assert not {"lmdeploy", "api_server", ".cc:"} & set(error.message.lower().split())


async def test_an_unknown_model_is_a_release_not_held(client: EngineClient, server: Server) -> None:
    with pytest.raises(ReleaseNotHeld):
        await said(client, server, model="nobody")


async def test_a_penalty_is_refused_before_the_engine_ignores_it(client: EngineClient, server: Server) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await said(client, server, presence_penalty=1)
    assert raised.value.param == "presence_penalty"


@pytest.mark.parametrize("fields", [{}, {"n": 2, "temperature": 1}, {"stop": ["no such text"]}])
async def test_whoever_leaves_a_stream_ends_its_generation(client: EngineClient, server: Server, fields: Json) -> None:
    before = await cut_off(server)
    body = ask(**fields, stream=True, max_tokens=240, ignore_eos=True)
    async with aclosing(client.stream(server.url, body, KIND)) as chunks:  # type: ignore[type-var]
        await anext(chunks)
        assert await active(server) == fields.get("n", 1)
    assert await cut_off(server) == before + fields.get("n", 1)


async def test_whoever_leaves_a_whole_reply_ends_its_generation(client: EngineClient, server: Server) -> None:
    before = await cut_off(server)
    asking = asyncio.create_task(client.complete(server.url, ask(max_tokens=240, ignore_eos=True), KIND))
    while not await active(server):
        await asyncio.sleep(0.02)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await cut_off(server) == before + 1


async def test_a_sleeping_engine_is_unavailable_and_another_may_be_tried(client: EngineClient, server: Server) -> None:
    await post(server, "/sleep?level=1", {})
    try:
        with pytest.raises(UpstreamUnavailable) as raised:
            await said(client, server)
    finally:
        await post(server, "/wakeup", {})
    assert isinstance(raised.value, NothingGenerated)
    assert raised.value.status == 503
