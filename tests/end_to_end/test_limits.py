"""Limits and usage of a running gateway of two workers, as a client meets them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import pytest_asyncio

from gateway.storage import keys
from gateway.storage.keys import KeyTerms
from tests.stack import Stack, running, stack_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("stack")
    async with running(stack_settings(folder, server={"workers": 2})) as started:
        yield started


async def client_with(stack: Stack, terms: KeyTerms) -> openai.AsyncOpenAI:
    async with stack.database.write() as session:
        project = await keys.ensure_project(session)
        _, secret = await keys.create_key(session, project.id, "limited", ["inference"], terms=terms)
    return openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=secret, max_retries=0)


async def outcome(client: openai.AsyncOpenAI) -> str:
    try:
        await client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    except openai.RateLimitError as error:
        return str(error.code)
    return "answered"


async def test_two_workers_keep_one_limit_together(stack: Stack) -> None:
    """150 requests at once over many connections, so over both workers; 50 are allowed."""
    async with await client_with(stack, KeyTerms(requests_per_minute=50)) as client:
        met = Counter(await asyncio.gather(*(outcome(client) for _ in range(150))))
    assert set(met) == {"answered", "rate_limit_exceeded"}
    assert 45 <= met["answered"] <= 50


async def test_answers_and_refusals_say_what_is_left(stack: Stack) -> None:
    async with await client_with(stack, KeyTerms(requests_per_minute=1)) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="assistant", messages=[{"role": "user", "content": "hi"}]
        )
        assert raw.headers["x-ratelimit-limit-requests"] == "1"
        assert raw.headers["x-ratelimit-remaining-requests"] == "0"
        assert raw.headers["x-ratelimit-reset-requests"] == "1m0s"
        assert "x-ratelimit-limit-tokens" not in raw.headers
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    assert refused.value.type == "rate_limit_error"
    assert 50 <= int(refused.value.response.headers["retry-after"]) <= 61
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"


async def test_an_open_stream_takes_a_place_until_it_ends(stack: Stack) -> None:
    async with await client_with(stack, KeyTerms(streams=1)) as client:
        for _ in range(6):  # one after the other, on whichever worker
            assert await outcome(client) == "answered"
        stream = await client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "[stall:3]"}], stream=True
        )
        await anext(aiter(stream))
        assert await outcome(client) == "rate_limit_exceeded"
        await stream.close()
        await asyncio.sleep(1.0)
        assert await outcome(client) == "answered"


async def test_usage_is_there_within_two_seconds(stack: Stack) -> None:
    reply = await stack.ask("count me", user="carol")
    assert reply.usage is not None
    await asyncio.sleep(2.0)
    _, usage = await stack.call("GET", "/admin/v1/usage?user=carol")
    (row,) = usage["data"]
    assert (row["requests"], row["total_tokens"]) == (1, reply.usage.total_tokens)


async def test_only_keys_made_for_images_may_send_large_bodies(stack: Stack) -> None:
    large = [{"role": "user", "content": "x" * (5 << 20)}]
    async with await client_with(stack, KeyTerms()) as plain, await client_with(stack, KeyTerms(images=True)) as images:
        with pytest.raises(openai.APIStatusError) as refused:
            await plain.chat.completions.create(model="assistant", messages=large)  # type: ignore[arg-type]
        assert refused.value.status_code == 413
        reply = await images.chat.completions.create(model="assistant", messages=large)  # type: ignore[arg-type]
        assert reply.choices[0].message.content
