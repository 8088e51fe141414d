"""The check itself can fail: each kind of violation is found, and the SDK hides none of them on the way to it."""

from typing import Any

import pytest
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.conformance.strict import check_error, violations

REPLY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Yes.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
CHUNK: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Yes."}, "logprobs": None, "finish_reason": None}],
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with one value set, or taken out if it is `...`."""
    if not path:
        return value
    copy = body.copy()
    if value is ... and len(path) == 1:
        del copy[path[0]]
    else:
        inner = copy.get(path[0]) if isinstance(copy, dict) else copy[path[0]]
        copy[path[0]] = changed(inner, path[1:], value)
    return copy


MESSAGE, CHOICE = ("choices", 0, "message"), ("choices", 0)


@pytest.mark.parametrize(
    "body", [REPLY, changed(REPLY, (*MESSAGE, "tool_calls"), [CALL]), changed(REPLY, (*MESSAGE, "content"), None)]
)
def test_right_replies_have_no_violations(body: Any) -> None:
    assert list(violations(ChatCompletion, body)) == []


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("prompt_token_ids",), None, "$.prompt_token_ids"),
        ((*MESSAGE, "reasoning"), "hm", "$.choices[0].message.reasoning"),
        (("id",), ..., "$.id"),
        (("created",), 1.5, "$.created"),
        (("created",), True, "$.created"),
        (("object",), "text_completion", "$.object"),
        (("usage",), None, "$.usage"),
        (("usage", "total_tokens"), ..., "$.usage.total_tokens"),
        (("system_fingerprint",), None, "$.system_fingerprint"),
        ((*CHOICE, "finish_reason"), None, "$.choices[0].finish_reason"),
        ((*CHOICE, "finish_reason"), "abort", "$.choices[0].finish_reason"),
        ((*CHOICE, "logprobs"), ..., "$.choices[0].logprobs"),
        ((*MESSAGE, "refusal"), ..., "$.choices[0].message.refusal"),
        ((*MESSAGE, "tool_calls"), None, "$.choices[0].message.tool_calls"),
        ((*MESSAGE, "function_call"), None, "$.choices[0].message.function_call"),
        ((*MESSAGE, "tool_calls"), [CALL | {"index": 0}], "$.choices[0].message.tool_calls[0].index"),
        (("choices",), {}, "$.choices"),
    ],
)
def test_each_kind_of_violation_is_found_where_it_is(path: tuple[Any, ...], value: Any, place: str) -> None:
    found = list(violations(ChatCompletion, changed(REPLY, path, value)))
    assert [violation.split(": ")[0] for violation in found] == [place]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*CHOICE, "delta", "tool_calls"), None),
        ((*CHOICE, "delta", "role"), None),
        ((*CHOICE, "delta", "reasoning_content"), "hm"),
        ((*CHOICE, "finish_reason"), ...),
        ((*CHOICE, "token_ids"), None),
        (("service_tier",), "gold"),
        (("created",), ...),
    ],
)
def test_the_sdk_gives_back_chunks_as_they_came(path: tuple[Any, ...], value: Any) -> None:
    body = changed(CHUNK, path, value)
    parsed = ChatCompletionChunk.construct(**body)
    assert parsed.to_dict(exclude_unset=True) == body
    assert len(list(violations(ChatCompletionChunk, body))) == 1
    assert list(violations(ChatCompletionChunk, CHUNK)) == []


def test_models_have_no_nulls() -> None:
    model = {"id": "a", "object": "model", "created": 1, "owned_by": "b"}
    assert list(violations(Model, model)) == []
    assert len(list(violations(Model, model | {"shutdown_date": None}))) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"detail": "Not Found"},
        {"error": "no"},
        {"error": {"message": "no", "type": "t"}},
        {"error": {"message": "no", "type": "t", "param": None, "code": 400}},
        {"error": {"message": "no", "type": None, "param": None, "code": None}},
        {"error": {"message": "", "type": "t", "param": None, "code": None}},
        {"error": {"message": "no", "type": "t", "param": None, "code": None}, "object": "error"},
    ],
)
def test_what_is_not_the_envelope_is_no_error_body(body: Any) -> None:
    with pytest.raises(AssertionError):
        check_error(body)


def test_the_envelope_is() -> None:
    check_error({"error": {"message": "no", "type": "t", "param": None, "code": None}})
