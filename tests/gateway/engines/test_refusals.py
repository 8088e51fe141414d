"""Engines' own words for no, as vLLM 0.32 and LMDeploy 0.18 were heard to say them, and what a client reads instead."""

import json
from typing import Any

import pytest

from gateway.engines.dialects import dialect_of
from gateway.engines.failures import NothingGenerated, ReleaseNotHeld, UpstreamOverloaded, UpstreamUnavailable
from gateway.errors import AlignwayError, UpstreamError, UpstreamRefused

CONTEXT = "Input tokens exceed the configured limit of 256 tokens. Shorten the messages"
NO_TOOLS = "This model is served without tool calls; its operator can turn them on with a tool-call parser."


def nested(message: str, status: int = 400, param: str | None = None) -> bytes:
    return json.dumps(
        {"error": {"message": message, "type": "BadRequestError", "param": param, "code": status}}
    ).encode()


def flat(message: str, status: int = 400) -> bytes:
    kind = "invalid_request_error"
    return json.dumps({"message": message, "type": kind, "code": status, "param": None, "object": "error"}).encode()


def refused(body: bytes, *, status: int = 400, grammar: bool = False) -> UpstreamRefused:
    error = dialect_of("vllm").refusal(status, body, grammar)
    assert isinstance(error, UpstreamRefused), repr(error)
    assert error.status == 400
    return error


@pytest.mark.parametrize(
    "body",
    [
        nested(
            "This model's maximum context length is 256 tokens. However, your prompt contains at least 257 input "
            "tokens, which exceeds this limit even without any output tokens. (parameter=input_tokens, value=257)",
            param="input_tokens",
        ),
        nested("The decoder prompt (length 300) is longer than the maximum model length of 256. Make sure."),
        flat("Input length (431) must be smaller than the model context length (256)."),
    ],
)
def test_both_engines_say_alike_that_a_prompt_is_too_long(body: bytes) -> None:
    error = refused(body)
    assert error.message.startswith(CONTEXT)
    assert (error.code, error.param) == ("context_length_exceeded", "messages")


def test_too_many_tokens_asked_for_names_the_field() -> None:
    text = "max_tokens=5000 cannot be greater than max_model_len=256. (parameter=max_tokens, value=5)"
    error = refused(nested(text, param="max_tokens"))
    assert error.message.startswith(CONTEXT)
    assert (error.code, error.param) == ("context_length_exceeded", "max_tokens")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (nested("Grammar error: Invalid type: nothing"), "Invalid type: nothing"),
        (nested("Grammar error: Pointer '/$defs/missing' does not exist"), "Pointer '/$defs/missing' does not exist"),
        (
            flat('Unsupported response format: [20:01:43] /project/cpp/a.cc:4944: Unsupported type "nothing"\n'),
            'Unsupported type "nothing"',
        ),
    ],
)
def test_a_schema_that_cannot_be_followed_is_named_with_its_reason(body: bytes, message: str) -> None:
    error = refused(body, grammar=True)
    assert error.message == f"`response_format` cannot be followed: {message}"
    assert error.param == "response_format"


def test_an_engine_that_breaks_over_a_grammar_is_the_clients_400() -> None:
    error = refused(nested("Internal server error", 500), status=500, grammar=True)
    assert (error.param, "refers to itself" in error.message) == ("response_format", True)


def test_an_engine_that_breaks_without_a_grammar_is_the_engines_fault() -> None:
    error = dialect_of("vllm").refusal(500, nested("Internal server error", 500), asked_grammar=False)
    assert type(error) is UpstreamError
    assert error.status == 502


def test_an_engine_that_died_is_never_the_clients_fault() -> None:
    text = "EngineCore encountered an issue (JSON schema). See stack trace (above) for the root cause."
    assert type(dialect_of("vllm").refusal(500, nested(text, 500), asked_grammar=True)) is UpstreamError


@pytest.mark.parametrize(
    "body",
    [
        nested('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        nested('tool_choice="required" requires --tool-call-parser to be set'),
        flat("Please launch the api_server with --tool-call-parser if you want to use tools."),
    ],
)
def test_both_engines_say_alike_that_tools_are_off(body: bytes) -> None:
    error = refused(body, grammar=True)
    assert (error.message, error.param, error.code) == (NO_TOOLS, "tools", "unsupported_parameter")


@pytest.mark.parametrize(
    "body", [nested("weights is not a multimodal model"), flat("Multimodal input is not supported by this model.")]
)
def test_both_engines_say_alike_that_a_model_takes_no_images(body: bytes) -> None:
    error = refused(body)
    assert (error.message, error.param) == ("This model takes text only.", "messages")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (nested("Input should be a valid integer", param="body.max_tokens"), "max_tokens"),
        (nested("token_id(s) [9] in logit_bias contain out-of-vocab token ids.", param="logit_bias"), "logit_bias"),
        (flat("max_tokens: Input should be a valid integer"), "max_tokens"),
        (flat("The top_logprobs 25 must be in [0, 20]."), "top_logprobs"),
        (flat("token_id 99999999 in logit_bias contains out-of-vocab token id"), "logit_bias"),
        (flat("Tool call arguments contain invalid JSON at position 1 (line 1, column 2)"), "messages"),
        (nested("n must be 1 when using greedy sampling, got 2."), "n"),
        (flat("something is amiss"), None),
    ],
)
def test_a_refusal_names_the_clients_own_field(body: bytes, param: str | None) -> None:
    assert refused(body).param == param


def test_invalid_arguments_of_an_earlier_call_are_not_blamed_on_the_tools() -> None:
    assert refused(flat("Tool call arguments contain invalid JSON at position 1"), grammar=True).param == "messages"


def test_a_validation_error_keeps_the_reason_alone() -> None:
    text = "1 validation error:\n  {'loc': 'body.seed', 'msg': 'Input should be a number', 'input': 'x'}"
    error = refused(nested(text, param="body.seed"))
    assert (error.message, error.param) == ("Input should be a number", "seed")


@pytest.mark.parametrize("body", [b"x" * 5_000_000, nested("y" * 5_000_000), flat("z " * 2_500_000), b"\xff" * 1000])
@pytest.mark.parametrize("status", [400, 500])
def test_no_refusal_is_longer_than_500_characters(body: bytes, status: int) -> None:
    assert len(dialect_of("lmdeploy").refusal(status, body, asked_grammar=True).message) <= 500


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        ("vllm.exceptions.VLLMValidationError: no", "vllm"),
        ("No such file /opt/models/secret-project/weights.bin", "secret-project"),
        ("lmdeploy.serve failed", "lmdeploy"),
        ("Request chatcmpl-98917d7f19f89468 was refused", "98917d7f19f89468"),
        ("The session_id 17 is occupied.", "17"),
        ("<Engine object at 0x7f00deadbeef> broke", "7f00deadbeef"),
        ("cannot reach http://127.0.0.1:23333/v1", "23333"),
        ("cannot reach https://gpu-7.example.com/v1/models?x=1.", "gpu-7"),
        ("Cannot connect to host gpu-7:8000 ssl:default", "gpu-7"),
        ("Connection to gpu-7.cluster.local:8000 refused", "gpu-7"),
        ("worker 203.0.113.7:29500 is gone, and so is 203.0.113.8", "203.0.113"),
        ("no answer from [2001:db8::7]:8000", "2001:db8"),
        ("tcp://gpu-7:5557 timed out", "gpu-7"),
        ("cannot connect to gpu-7:8000", "gpu-7"),
        ("cannot connect to engine:8000", "engine:"),
        ("worker gpu7:29500 is gone", "gpu7"),
        ("getaddrinfo failed for gpu-7.corp.example.com", "gpu-7"),
        ("gpu-7.models.svc.cluster.local does not resolve", "gpu-7"),
        ("HTTPConnectionPool(host='gpu-7', port=8000): Max retries exceeded", "gpu-7"),
        ("2001:db8::7 refused", "2001:db8"),
        ("fe80:0:0:0:1:2:3:4%eth0 refused", "fe80"),
        ("no such object s3://gpu-7/weights/a.bin", "gpu-7"),
        ("file:///srv/gpu-7/weights is empty", "gpu-7"),
        ('oops\nTraceback (most recent call last):\n  File "engine.py", line 3, in step\n    boom()', "engine.py"),
        ("pydantic_core._pydantic_core.ValidationError: bad", "pydantic"),
    ],
)
@pytest.mark.parametrize("status", [400, 500])
def test_nothing_of_the_engines_insides_is_told(said: str, secret: str, status: int) -> None:
    for body in (nested(said), flat(said), said.encode()):
        assert secret not in dialect_of("lmdeploy").refusal(status, body, asked_grammar=False).message.lower()


@pytest.mark.parametrize(
    "said",
    [
        "4096 is more than 1:2048, at 12:30:45 or a 3:10000 ratio",
        "The value 1.5:2000 for logit_bias is no number.",
        "seed must be at most 9223372036854775807, got std::max + 1 (line 3, column 12).",
    ],
)
def test_what_names_no_place_is_told_as_it_was_said(said: str) -> None:
    assert refused(flat(said)).message == said


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"null", b'{"error": null}', b'{"error": "no"}', b'{"detail": []}']
)
@pytest.mark.parametrize("status", [400, 404, 418, 429, 500, 503, 599])
def test_nonsense_is_an_error_all_the_same(body: bytes, status: int) -> None:
    error = dialect_of("url").refusal(status, body, asked_grammar=False)
    assert isinstance(error, AlignwayError)
    assert error.message


@pytest.mark.parametrize(
    ("status", "kind", "answered", "retry"),
    [
        (404, ReleaseNotHeld, 502, None),
        (429, UpstreamOverloaded, 429, 2.0),
        (503, UpstreamUnavailable, 503, 2.0),
        (409, UpstreamUnavailable, 503, 2.0),
    ],
)
def test_what_may_be_tried_again_says_so(status: int, kind: type[Any], answered: int, retry: float | None) -> None:
    for body in (nested("The model `weights` does not exist.", status), flat("Engine is sleeping; call POST /wakeup.")):
        error = dialect_of("lmdeploy").refusal(status, body, asked_grammar=True)
        assert type(error) is kind
        assert isinstance(error, NothingGenerated)
        assert error.max_attempts > 1
        assert (error.status, error.retry_after_seconds) == (answered, retry)
        assert "weights" not in error.message
        assert "wakeup" not in error.message


def test_an_error_in_a_stream_is_judged_like_one_with_a_status() -> None:
    dialect = dialect_of("vllm")
    grammar = dialect.broken_off({"message": "Internal server error", "code": 500}, asked_grammar=True)
    assert (type(grammar), grammar.param) == (UpstreamRefused, "response_format")
    engine = dialect.broken_off({"message": "Internal server error", "code": 500}, asked_grammar=False)
    assert (type(engine), engine.message) == (UpstreamError, "The engine broke off: Internal server error")
    long = dialect.broken_off(
        {"message": "The request exceeds the model context length.", "code": 400}, asked_grammar=False
    )
    assert (type(long), long.code) == (UpstreamRefused, "context_length_exceeded")
    assert type(dialect.broken_off("gone", asked_grammar=True)) is UpstreamError
