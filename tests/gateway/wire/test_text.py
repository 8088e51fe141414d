"""The legacy route: which fields go on, which come back, and what is refused by name."""

from typing import Any

import pytest
from openai.types import Completion, completion_create_params

from gateway.errors import InvalidRequest, UpstreamError
from gateway.settings import SurfaceSettings
from gateway.wire.text import EXTENSION_FIELDS, FIELDS, TextAnswer, TextRequest, parse_text_request, text_head

HEAD = text_head("cmpl-1", 1_700_000_000, "assistant-20261123-1", "rel_1")
STRICT = SurfaceSettings(extensions="strict")


def asked(surface: SurfaceSettings | None = None, **fields: Any) -> TextRequest:
    return parse_text_request({"model": "assistant", "prompt": "Once"} | fields, surface or SurfaceSettings())


def refused(surface: SurfaceSettings | None = None, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        asked(surface, **fields)
    return caught.value


def choice(index: int = 0, text: str = "upon", **fields: Any) -> dict[str, Any]:
    return {"index": index, "text": text, "finish_reason": "stop", "logprobs": None, "stop_reason": None} | fields


def test_every_field_of_the_sdk_has_a_decision_and_no_other_has() -> None:
    params = completion_create_params
    streaming = params.CompletionCreateParamsStreaming.__annotations__
    assert {*params.CompletionCreateParamsBase.__annotations__, *streaming} == FIELDS.keys()


def test_only_what_was_asked_goes_on_and_the_engine_s_own_name_with_it() -> None:
    given = {
        "prompt": ["a", "b"], "max_tokens": 3, "temperature": 0, "top_p": 0.5, "n": 2, "stop": ["x"], "seed": -1,
        "logprobs": 2, "echo": True, "presence_penalty": 1, "frequency_penalty": -1, "logit_bias": {"5": 1},
        "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1,
    }  # fmt: skip
    request = asked(user="u", stream=False, suffix=None, best_of=1, **given)
    assert request.engine_body("weights") == given | {"model": "weights"}
    assert (request.choices, request.first_prompt, request.user) == (4, "a", "u")


def test_a_stream_always_asks_the_engine_for_usage() -> None:
    body = asked(stream=True).engine_body("weights")
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2], [3]], ["a", 3]])
def test_token_ids_are_refused(prompt: Any) -> None:
    error = refused(prompt=prompt)
    assert (error.status, error.param, error.code) == (400, "prompt", "unsupported_parameter")


def test_what_cannot_be_is_refused_by_name() -> None:
    told: dict[str, Any] = {
        "prompt": "", "best_of": 3, "suffix": "end", "n": 17, "max_tokens": 0, "logprobs": 6, "temperature": 2.1,
        "stream_options": {"include_usage": True}, "logit_bias": {"5": 101}, "seed": 2**63, "echo": "yes",
        "prompt_embeds": "x", "request_id": "mine",
    }  # fmt: skip
    for name, value in told.items():
        assert (refused(**{name: value}).param or "").split(".")[0] == name
    assert refused(prompt=["x"] * 100, n=2).param == "n"
    assert refused(SurfaceSettings(max_stops=1), stop=["a", "b"]).param == "stop"


def test_a_field_that_is_null_counts_as_left_out() -> None:
    nothing = {"n": None, "stop": None, "foo": None, "best_of": None}
    assert asked(**nothing) == asked()
    assert asked(STRICT, top_k=None) == asked()


def test_strict_takes_openai_s_fields_alone() -> None:
    for name in EXTENSION_FIELDS:
        assert asked(**{name: 1}).engine_body("w")[name] == 1
        assert refused(STRICT, **{name: 1}).code == "unknown_parameter"


def test_a_reply_is_openai_s_and_nothing_else() -> None:
    logprobs = {"tokens": ["upon"], "token_logprobs": [-1.0], "text_offset": [0], "top_logprobs": None, "own": 1}
    reply = {
        "id": "cmpl-of-the-engine", "object": "text_completion", "created": 5, "model": "weights",
        "choices": [choice(logprobs=logprobs, prompt_logprobs=None, token_ids=[1])],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "prompt_tokens_details": None},
        "kv_transfer_params": None,
    }  # fmt: skip
    answer = TextAnswer(HEAD, asked())
    shown = answer.whole(reply)
    Completion.model_validate(shown, strict=True)
    assert shown == {
        "id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": "assistant-20261123-1",
        "system_fingerprint": "rel_1",
        "choices": [{"index": 0, "text": "upon", "finish_reason": "stop", "logprobs": {
            "tokens": ["upon"], "token_logprobs": [-1.0], "text_offset": [0], "top_logprobs": None}}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }  # fmt: skip
    assert answer.finished


def test_a_stream_ends_only_when_every_text_has() -> None:
    answer = TextAnswer(HEAD, asked(prompt=["a", "b"], stream=True, stream_options={"include_usage": True}))
    first = answer.chunk({"choices": [choice(0, finish_reason=None)]})
    assert first == {**HEAD, "usage": None, "choices": [
        {"index": 0, "text": "upon", "logprobs": None, "finish_reason": None}]}  # fmt: skip
    answer.chunk({"choices": [choice(0)]})
    assert not answer.finished
    answer.chunk({"choices": [choice(1, finish_reason="length")]})
    assert answer.finished
    assert answer.chunk({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}) is None
    assert answer.usage_chunk()["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


@pytest.mark.parametrize("reply", [{}, {"choices": [choice(finish_reason="abort")]}])
def test_nonsense_and_broken_texts_are_the_engine_s_failure(reply: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError):
        TextAnswer(HEAD, asked()).whole(reply)
