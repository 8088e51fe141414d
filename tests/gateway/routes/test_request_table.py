"""Requests and what must become of them: one table, asked over HTTP of a gateway with a scripted engine.

The right-hand sides are OpenAI's: which status, which `param`, and which code. Every field that the openai SDK can send
has a row.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from openai.types import Completion, completion_create_params
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import Response

from tests.conformance.strict import check, check_error
from tests.stack import ADMIN_KEY, Stack, running, stack_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK: tuple[int, None, None] = (200, None, None)
Expected = tuple[int, str | None, str | None]
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
NAMED = {"type": "function", "function": {"name": "look"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def value(param: str) -> Expected:
    return 400, param, "invalid_value"


def kind(param: str) -> Expected:
    return 400, param, "invalid_type"


def unsupported(param: str) -> Expected:
    return 400, param, "unsupported_parameter"


def unknown(param: str) -> Expected:
    return 400, param, "unknown_parameter"


def missing(param: str) -> Expected:
    return 400, param, "missing_required_parameter"


CHAT: list[tuple[dict[str, Any], Expected]] = [
    ({}, OK),
    ({"model": ...}, missing("model")),
    ({"model": ""}, value("model")),
    ({"model": 3}, kind("model")),
    ({"model": "gpt-unknown"}, (404, "model", "model_not_found")),
    ({"messages": ...}, missing("messages")),
    ({"messages": []}, value("messages")),
    ({"messages": "hi"}, kind("messages")),
    ({"messages": [{"content": "hi"}]}, missing("messages[0].role")),
    ({"messages": [{"role": "wizard", "content": "hi"}]}, value("messages[0].role")),
    ({"messages": [{"role": "user"}]}, missing("messages[0].content")),
    ({"messages": [{"role": "user", "content": None}]}, missing("messages[0].content")),
    ({"messages": [{"role": "user", "content": 3}]}, kind("messages[0].content")),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}, OK),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, missing("messages[0].content[0].text")),
    ({"messages": [{"role": "user", "content": [{"type": "poem"}]}]}, value("messages[0].content[0].type")),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, (400, "messages", "images_not_supported")),
    ({"messages": [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, USER]}, OK),
    ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                   {"role": "tool", "tool_call_id": "call_1", "content": "seen"}]}, OK),
    ({"messages": [USER, {"role": "tool", "content": "seen"}]}, missing("messages[1].tool_call_id")),
    ({"messages": [USER | {"name": "ada"}]}, OK),
    ({"messages": [USER | {"token_ids": [1]}]}, unknown("messages[0].token_ids")),
    ({"stream": None}, OK),
    ({"stream": "maybe"}, kind("stream")),
    ({"stream_options": None}, OK),
    ({"stream_options": {"include_usage": True}}, value("stream_options")),
    ({"n": 2}, OK),
    ({"n": None}, OK),
    ({"n": 0}, value("n")),
    ({"n": 1000}, value("n")),
    ({"n": 1.5}, kind("n")),
    ({"n": "2"}, kind("n")),
    ({"temperature": 0}, OK),
    ({"temperature": 2}, OK),
    ({"temperature": 2.1}, value("temperature")),
    ({"temperature": -0.1}, value("temperature")),
    ({"temperature": "hot"}, kind("temperature")),
    ({"top_p": 1}, OK),
    ({"top_p": 0}, value("top_p")),
    ({"top_p": 1.1}, value("top_p")),
    ({"max_tokens": 1}, OK),
    ({"max_tokens": 0}, value("max_tokens")),
    ({"max_tokens": ..., "max_completion_tokens": 1}, OK),
    ({"max_tokens": 4, "max_completion_tokens": 5}, value("max_tokens")),
    ({"max_tokens": ..., "max_completion_tokens": 0}, value("max_completion_tokens")),
    ({"stop": "x"}, OK),
    ({"stop": ["x", "y"]}, OK),
    ({"stop": None}, OK),
    ({"stop": ["x"] * 50}, value("stop")),
    ({"stop": [3]}, kind("stop[0]")),
    ({"seed": 7}, OK),
    ({"seed": 2**64}, value("seed")),
    ({"presence_penalty": -2}, OK),
    ({"presence_penalty": 2.1}, value("presence_penalty")),
    ({"frequency_penalty": 2}, OK),
    ({"frequency_penalty": -2.1}, value("frequency_penalty")),
    ({"logprobs": True, "top_logprobs": 2}, OK),
    ({"logprobs": False}, OK),
    ({"logprobs": "yes"}, kind("logprobs")),
    ({"top_logprobs": 2}, value("top_logprobs")),
    ({"logprobs": True, "top_logprobs": 21}, value("top_logprobs")),
    ({"logit_bias": {"5": -100}}, OK),
    ({"logit_bias": {"5": 101}}, value("logit_bias.5")),
    ({"logit_bias": {"five": 1}}, kind("logit_bias")),
    ({"response_format": {"type": "text"}}, OK),
    ({"response_format": {"type": "json_object"}}, OK),
    ({"response_format": SCHEMA}, OK),
    ({"response_format": {"type": "xml"}}, value("response_format.type")),
    ({"response_format": {"type": "json_schema"}}, missing("response_format.json_schema")),
    ({"tools": [TOOL]}, OK),
    ({"tools": [TOOL], "tool_choice": "none"}, OK),
    ({"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False}, OK),
    ({"tools": [TOOL], "tool_choice": NAMED}, OK),
    ({"tools": [TOOL], "tool_choice": "sometimes"}, value("tool_choice")),
    ({"tools": [{"type": "function"}]}, missing("tools[0].function")),
    ({"tools": [{"type": "function", "function": {}}]}, missing("tools[0].function.name")),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
     value("tool_choice")),
    ({"tool_choice": "required"}, value("tool_choice")),
    ({"parallel_tool_calls": True}, OK),
    ({"functions": [{"name": "look"}]}, unsupported("functions")),
    ({"function_call": "auto"}, unsupported("function_call")),
    ({"metadata": {"k": "v"}}, OK),
    ({"metadata": {"k": 3}}, kind("metadata.k")),
    ({"metadata": {"k": "v" * 513}}, value("metadata.k")),
    ({"metadata": {str(number): "" for number in range(17)}}, value("metadata")),
    ({"store": True}, OK),
    ({"store": False}, OK),
    ({"store": "no"}, kind("store")),
    ({"user": "ada"}, OK),
    ({"safety_identifier": "ada"}, OK),
    ({"prompt_cache_key": "a"}, OK),
    ({"prompt_cache_retention": "24h"}, OK),
    ({"prompt_cache_options": {"mode": "implicit"}}, OK),
    ({"reasoning_effort": "low"}, OK),
    ({"reasoning_effort": "frantic"}, value("reasoning_effort")),
    ({"service_tier": "auto"}, OK),
    ({"service_tier": "priority"}, unsupported("service_tier")),
    ({"verbosity": "medium"}, OK),
    ({"verbosity": "low"}, unsupported("verbosity")),
    ({"modalities": ["text"]}, OK),
    ({"modalities": ["text", "audio"]}, unsupported("modalities")),
    ({"audio": {"format": "wav", "voice": "alloy"}}, unsupported("audio")),
    ({"prediction": {"type": "content", "content": "hi"}}, unsupported("prediction")),
    ({"moderation": {"model": "omni"}}, unsupported("moderation")),
    ({"web_search_options": {}}, unsupported("web_search_options")),
    ({"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "chat_template_kwargs": {"enable_thinking": False}}, OK),
    ({"request_id": "mine"}, unknown("request_id")),
    ({"chat_template": "{{ 1 }}"}, unknown("chat_template")),
    ({"prompt_embeds": "AAAA"}, unknown("prompt_embeds")),
    ({"mm_processor_kwargs": {}}, unknown("mm_processor_kwargs")),
    ({"chat_template_kwargs": {"evil": 1}}, unknown("chat_template_kwargs.evil")),
]  # fmt: skip
TEXT: list[tuple[dict[str, Any], Expected]] = [
    ({}, OK),
    ({"model": "gpt-unknown"}, (404, "model", "model_not_found")),
    ({"prompt": ...}, missing("prompt")),
    ({"prompt": [1, 2]}, unsupported("prompt")),
    ({"prompt": ["a", "b"], "n": 2}, OK),
    ({"best_of": 1}, OK),
    ({"best_of": 3}, unsupported("best_of")),
    ({"suffix": "end"}, unsupported("suffix")),
    ({"echo": False, "stop": ["x"], "seed": 1, "user": "ada", "top_p": 0.5}, OK),
    ({"logprobs": 6}, value("logprobs")),
    ({"n": 0}, value("n")),
    ({"max_tokens": 0}, value("max_tokens")),
    ({"temperature": 3}, value("temperature")),
    ({"presence_penalty": 3}, value("presence_penalty")),
    ({"frequency_penalty": 3}, value("frequency_penalty")),
    ({"logit_bias": {"5": 101}}, value("logit_bias.5")),
    ({"stream": "maybe"}, kind("stream")),
    ({"stream_options": {"include_usage": True}}, value("stream_options")),
    ({"prompt_embeds": "AAAA"}, unknown("prompt_embeds")),
]
RESPONSES: list[tuple[dict[str, Any], Expected]] = [
    ({}, OK),
    ({"model": "gpt-unknown"}, (404, "model", "model_not_found")),
    ({"input": ...}, missing("input")),
    ({"instructions": "Be brief.", "max_output_tokens": 4, "temperature": 0, "top_p": 1}, OK),
    ({"metadata": {"k": "v"}, "store": False, "user": "ada", "safety_identifier": "a", "prompt_cache_key": "k"}, OK),
    ({"temperature": 3}, value("temperature")),
    ({"top_p": 2}, value("top_p")),
    ({"max_output_tokens": 0}, value("max_output_tokens")),
    ({"reasoning": {"effort": "low"}, "text": {"format": {"type": "text"}}, "truncation": "disabled"}, OK),
    ({"truncation": "auto"}, unsupported("truncation")),
    ({"previous_response_id": "resp_1"}, unsupported("previous_response_id")),
    ({"conversation": "conv_1"}, unsupported("conversation")),
    ({"background": True}, unsupported("background")),
    ({"prompt": {"id": "pmpt_1"}}, unsupported("prompt")),
    ({"service_tier": "flex"}, unsupported("service_tier")),
    ({"tools": [{"type": "web_search"}]}, unsupported("tools[0].type")),
    ({"tool_choice": "required"}, value("tool_choice")),
    ({"chat_template": "x"}, unknown("chat_template")),
]
ROUTES = {
    "/v1/chat/completions": ({"model": "assistant", "messages": [USER], "max_tokens": 4}, ChatCompletion),
    "/v1/completions": ({"model": "assistant", "prompt": "hi", "max_tokens": 4}, Completion),
    "/v1/responses": ({"model": "assistant", "input": "hi"}, Response),
}
TABLE = [
    *(("/v1/chat/completions", change, expected) for change, expected in CHAT),
    *(("/v1/completions", change, expected) for change, expected in TEXT),
    *(("/v1/responses", change, expected) for change, expected in RESPONSES),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A gateway, an agent and a scripted engine."""
    async with running(stack_settings(tmp_path_factory.mktemp("stack"))) as started:
        yield started


def body_of(path: str, change: dict[str, Any]) -> dict[str, Any]:
    """The body of a plain request with `change`; `...` leaves a field out."""
    return {name: held for name, held in (ROUTES[path][0] | change).items() if held is not ...}


def named(row: Any) -> str:
    return json.dumps(row, default=str)[:60] if isinstance(row, dict) else str(row)


@pytest.mark.parametrize(("path", "change", "expected"), TABLE, ids=named)
async def test_a_request_is_answered_or_refused_by_name(
    stack: Stack, path: str, change: dict[str, Any], expected: Expected
) -> None:
    status, answer = await stack.call("POST", path, body_of(path, change))
    if expected == OK:
        assert status == 200, answer
        check(ROUTES[path][1], answer)
        return
    check_error(answer)
    assert (status, answer["error"]["param"], answer["error"]["code"]) == expected


STREAMED = [(change, expected) for change, expected in CHAT if not {"stream", "stream_options"} & change.keys()]
"""Without those that say themselves whether they stream."""


@pytest.mark.parametrize(("change", "expected"), STREAMED, ids=named)
async def test_a_streamed_chat_is_answered_or_refused_alike(
    stack: Stack, change: dict[str, Any], expected: Expected
) -> None:
    body = body_of("/v1/chat/completions", change) | {"stream": True}
    key = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with (
        aiohttp.ClientSession(stack.url, headers=key) as session,
        session.post("/v1/chat/completions", json=body) as response,
    ):
        raw = await response.read()
        if expected != OK:
            check_error(json.loads(raw))
            error = json.loads(raw)["error"]
            assert (response.status, error["param"], error["code"]) == expected
            return
        assert (response.status, response.content_type) == (200, "text/event-stream")
    *events, done, rest = raw.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    for event in events:
        check(ChatCompletionChunk, json.loads(event.removeprefix(b"data: ")))


def test_every_field_that_the_sdk_can_send_to_chat_has_a_row() -> None:
    sent = set(chat_create_params.CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert sent <= {name for change, _ in CHAT for name in change}


def test_every_field_that_the_sdk_can_send_to_completions_has_a_row() -> None:
    sent = set(completion_create_params.CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert sent <= {name for change, _ in TEXT for name in change}
