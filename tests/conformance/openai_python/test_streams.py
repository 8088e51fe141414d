"""Streamed chat completions through the openai SDK, and what becomes of the engine's work when a client leaves."""

import asyncio
import json
import re
import time
import urllib.request
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.conformance.conftest import Served
from tests.conformance.openai_python.conftest import Asking, ends_of, text_of


def test_a_stream_says_what_the_whole_reply_says(ask: Asking) -> None:
    chunks = ask.chunks(max_tokens=16)
    whole = ask.whole(max_tokens=16)
    assert text_of(chunks) == whole.choices[0].message.content
    assert ends_of(chunks) == {0: [whole.choices[0].finish_reason]}
    assert len(chunks) > 10  # it came in pieces


def test_every_chunk_bears_the_same_signature(ask: Asking) -> None:
    chunks = ask.chunks()
    signatures = {(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}
    assert len(signatures) == 1
    assert chunks[0].id.startswith("chatcmpl-")
    assert chunks[0].model == ask.whole().model


def test_the_role_comes_first_and_once(ask: Asking) -> None:
    chunks = ask.chunks()
    roles = [choice.delta.role for chunk in chunks for choice in chunk.choices]
    assert roles[0] == "assistant"
    assert set(roles[1:]) == {None}


def test_usage_comes_last_and_only_if_asked_for(ask: Asking) -> None:
    for options in ({}, {"stream_options": {"include_usage": False}}):
        plain = ask.chunks(**options)
        assert all("usage" not in chunk.to_dict(exclude_unset=True) for chunk in plain)
        assert all(chunk.choices for chunk in plain)
    *before, last = ask.chunks(stream_options={"include_usage": True})
    # Null everywhere but in the last chunk, which has no choices.
    assert all(chunk.to_dict(exclude_unset=True)["usage"] is None for chunk in before)
    assert last.choices == []
    assert last.usage == ask.whole().usage


def test_streamed_choices_keep_apart(ask: Asking) -> None:
    chunks = ask.chunks(n=3)
    assert ends_of(chunks) == {0: ["length"], 1: ["length"], 2: ["length"]}
    assert {text_of(chunks, index) for index in range(3)} == {ask.whole().choices[0].message.content}


def test_a_stream_ends_before_a_stop(ask: Asking) -> None:
    text = text_of(ask.chunks(max_tokens=16))
    stop = text[len(text) // 2 :][:4]
    chunks = ask.chunks(max_tokens=16, stop=[stop])
    assert text_of(chunks) == text[: text.index(stop)]
    assert ends_of(chunks) == {0: ["stop"]}


def test_streamed_log_probabilities_are_those_of_the_whole_reply(ask: Asking) -> None:
    options: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "max_tokens": 4}
    streamed = [
        token
        for chunk in ask.chunks(**options)
        for choice in chunk.choices
        for token in (choice.logprobs.content if choice.logprobs else None) or []
    ]
    whole = ask.whole(**options).choices[0].logprobs
    assert whole is not None
    assert [token.token for token in streamed] == [token.token for token in whole.content or []]
    for token, other in zip(streamed, whole.content or [], strict=True):
        assert token.logprob == pytest.approx(other.logprob, abs=1e-3)


def test_the_sdks_stream_helper_assembles_the_reply(ask: Asking, client: OpenAI) -> None:
    # A reply cut by `max_tokens` is an error to this helper, so let it end by itself.
    options: dict[str, Any] = {"messages": "hi", "max_tokens": 60}
    with client.chat.completions.stream(**ask.fields(stream_options={"include_usage": True}, **options)) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    whole = ask.whole(**options)
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"
    assert final.usage == whole.usage


async def test_the_async_client_streams_many_at_once(served: Served, ask: Asking) -> None:
    expected = ask.whole().choices[0].message.content or ""

    async def one(client: AsyncOpenAI) -> str:
        text = ""
        async for chunk in await client.chat.completions.create(**ask.fields(), stream=True):
            text += chunk.choices[0].delta.content or ""
        return text

    async with AsyncOpenAI(base_url=served.url, api_key=served.key, max_retries=0) as client:
        texts = await asyncio.gather(*(one(client) for _ in range(4)))
        reply = await client.chat.completions.create(**ask.fields())
    # Batches of other sizes round differently, so that a greedy text may turn off after a while; it begins alike.
    assert {text[:8] for text in texts} == {expected[:8]}
    assert reply.choices[0].message.content == expected


def running(served: Served) -> float:
    """Requests in the engine, by its own count."""
    root = served.url.removesuffix("/v1")
    asked = urllib.request.Request(f"{root}/admin/v1/replicas", headers={"authorization": f"Bearer {served.key}"})
    with urllib.request.urlopen(asked) as answer:
        engine = json.load(answer)["data"][0]["url"]
    with urllib.request.urlopen(f"{engine}/metrics") as answer:
        found = re.findall(r"^vllm:num_requests_running\{.*?\} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found
    return sum(float(number) for number in found)


def wait_until_idle(served: Served, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while running(served):
        assert time.monotonic() < deadline, "the engine still generates"
        time.sleep(0.05)


def test_a_stream_that_is_closed_ends_the_engines_work_within_a_second(
    ask: Asking, client: OpenAI, served: Served
) -> None:
    long = ask.fields(messages="Tell a very long story.", max_tokens=900, logit_bias={"2": -100})
    stream = client.chat.completions.create(**long, stream=True)
    for _, _chunk in zip(range(4), stream, strict=False):
        pass
    assert running(served) == 1
    stream.close()
    wait_until_idle(served, 1.0)


def test_a_whole_reply_that_nobody_waits_for_ends_the_engines_work_within_a_second(
    ask: Asking, client: OpenAI, served: Served
) -> None:
    long = ask.fields(messages="Tell a very long story.", max_tokens=900, logit_bias={"2": -100})
    with pytest.raises(Exception, match="timed out"):
        client.with_options(timeout=2).chat.completions.create(**long)
    wait_until_idle(served, 1.0)
