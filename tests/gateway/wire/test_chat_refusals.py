"""What is refused, with which code, naming which parameter as OpenAI spells it, and in words of JSON."""

import json
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire.chat import parse_chat_request

SURFACE = SurfaceSettings()
HI = {"role": "user", "content": "hi"}
WEATHER = {"type": "function", "function": {"name": "weather"}}
NEWS = {"type": "function", "function": {"name": "news"}}


def refusal(body: bytes | dict[str, Any], surface: SurfaceSettings = SURFACE) -> InvalidRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidRequest) as refused:
        parse_chat_request(raw, surface)
    assert refused.value.status == 400
    for python in ("`int`", "`str`", "`array`", "Expected", "got `", "msgspec", "Struct", "Literal"):
        assert python not in refused.value.message
    return refused.value


def of_fields(surface: SurfaceSettings = SURFACE, **fields: Any) -> InvalidRequest:
    return refusal({"model": "assistant", "messages": [HI]} | fields, surface)


def of_message(message: Any) -> InvalidRequest:
    return refusal({"model": "assistant", "messages": [HI, message]})


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[1]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b"{}x", b"\xef\xbb\xbf{}",
        b'{"model":"a","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"\\ud800\\u0041 and on"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"a\nb"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"hi"}],"temperature":NaN}',
        b'{"model":"a","messages":[{"role":"user","content":"hi"}],"temperature":-Infinity}',
        b'{"model":"a","messages":[{"role":"user","content":"hi"}],"deep":' + b"[" * 100_000,
        b'{"model":"a","messages":[{"role":"user","content":"hi"}],"tools":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused_as_such(body: bytes) -> None:
    error = refusal(body)
    assert (error.code, error.param) == ("invalid_json", None)


@pytest.mark.parametrize("raw", [b"1e999", b"-1e999", b"1" * 5000])
def test_numbers_beyond_a_double_are_refused(raw: bytes) -> None:
    for name in (b"temperature", b"seed"):
        error = refusal(b'{"model":"a","messages":[{"role":"user","content":"hi"}],"%b":%b}' % (name, raw))
        assert error.param == name.decode()


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"n": True}, "invalid_type", "n"),
        ({"n": "1"}, "invalid_type", "n"),
        ({"n": 1.0}, "invalid_type", "n"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 17}, "invalid_value", "n"),
        ({"temperature": "1"}, "invalid_type", "temperature"),
        ({"temperature": True}, "invalid_type", "temperature"),
        ({"temperature": 2.01}, "invalid_value", "temperature"),
        ({"temperature": -0.1}, "invalid_value", "temperature"),
        ({"top_p": 0}, "invalid_value", "top_p"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": 2**31}, "invalid_value", "max_tokens"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"presence_penalty": 2.1}, "invalid_value", "presence_penalty"),
        ({"stream": 1}, "invalid_type", "stream"),
        ({"stream": "true"}, "invalid_type", "stream"),
        ({"stop": 5}, "invalid_type", "stop"),
        ({"stop": ""}, "invalid_value", "stop"),
        ({"stop": ["a", ""]}, "invalid_value", "stop[1]"),
        ({"stop": ["a", 1]}, "invalid_type", "stop[1]"),
        ({"stop": ["a"] * 17}, "invalid_value", "stop"),
        ({"stop": ["a", "b" * 1001]}, "invalid_value", "stop[1]"),
        ({"logit_bias": {"1": 100.5}}, "invalid_value", "logit_bias.1"),
        ({"logit_bias": {"1": True}}, "invalid_type", "logit_bias.1"),
        ({"logit_bias": {"one": 1}}, "invalid_type", "logit_bias"),
        ({"logit_bias": {"1.0": 1}}, "invalid_type", "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {str(token): 1 for token in range(1025)}}, "invalid_value", "logit_bias"),
        ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata.k"),
        ({"metadata": {"k": 1}}, "invalid_type", "metadata.k"),
        ({"metadata": {"k" * 65: "v"}}, "invalid_value", "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "invalid_value", "metadata"),
        ({"reasoning_effort": "frantic"}, "invalid_value", "reasoning_effort"),
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        ({"response_format": {}}, "missing_required_parameter", "response_format.type"),
        ({"response_format": "json"}, "invalid_type", "response_format"),
        ({"top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"model": ""}, "invalid_value", "model"),
        ({"model": None}, "missing_required_parameter", "model"),
        ({"model": ["assistant"]}, "invalid_type", "model"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": None}, "missing_required_parameter", "messages"),
        ({"messages": "hi"}, "invalid_type", "messages"),
        ({"messages": [HI] * 2049}, "invalid_value", "messages"),
        ({"messages": [HI] * 2049, "nothing": None}, "invalid_value", "messages"),
        ({"user": "u" * 257}, "invalid_value", "user"),
        ({"bogus": 1}, "unknown_parameter", "bogus"),
        ({"b" * 5000: 1}, "unknown_parameter", "b" * 100),
        ({"` - at `$.model": 1}, "unknown_parameter", "` - at `$.model"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "unknown_parameter",
         "stream_options.continuous_usage_stats"),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "unknown_parameter", "chat_template_kwargs.chat_template"),
        ({"chat_template_kwargs": {"thinking": {"a": 1}}}, "invalid_type", "chat_template_kwargs.thinking"),
        ({"chat_template_kwargs": {"thinking_budget": 2**64}}, "invalid_value", "chat_template_kwargs.thinking_budget"),
        ({"chat_template_kwargs": {"thinking": "x" * 257}}, "invalid_value", "chat_template_kwargs.thinking"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    error = of_fields(**fields)
    assert (error.code, error.param) == (code, param)
    assert len(error.message) < 500


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"top_logprobs": 1}, "top_logprobs", "`logprobs`"),
        ({"top_logprobs": 1, "logprobs": False}, "top_logprobs", "`logprobs`"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "`stream`"),
        ({"stream_options": {}, "stream": False}, "stream_options", "`stream`"),
        ({"tool_choice": "required"}, "tool_choice", "`tools`"),
        ({"tool_choice": "auto", "tools": []}, "tool_choice", "`tools`"),
        ({"tool_choice": WEATHER}, "tool_choice", "`tools`"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "news"}}},
            "tool_choice",
            "news",
        ),
        (
            {
                "tools": [NEWS],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [WEATHER]}},
            },
            "tool_choice",
            "weather",
        ),
        ({"tools": [WEATHER] * 129}, "tools", "128"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "`max_completion_tokens`"),
    ],
)
def test_fields_that_do_not_go_together_are_explained(fields: dict[str, Any], param: str, words: str) -> None:
    error = of_fields(**fields)
    assert (error.code, error.param) == ("invalid_value", param)
    assert words in error.message


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"name": "r"}, "missing_required_parameter", "schema"),
        ({"name": "r", "schema": None}, "missing_required_parameter", "schema"),
        ({"schema": {}}, "missing_required_parameter", "name"),
        ({"name": "no spaces", "schema": {}}, "invalid_value", "name"),
        ({"name": "line\n", "schema": {}}, "invalid_value", "name"),
        ({"name": "r", "schema": []}, "invalid_value", "schema"),
        ({"name": "r", "schema": "{}"}, "invalid_value", "schema"),
    ],
)
def test_a_json_schema_format_needs_a_name_and_a_schema(asked: dict[str, Any], code: str, param: str) -> None:
    error = of_fields(response_format={"type": "json_schema", "json_schema": asked})
    assert (error.code, error.param) == (code, f"response_format.json_schema.{param}")


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("hi", "invalid_type", ""),
        ({"content": "x"}, "missing_required_parameter", ".role"),
        ({"role": 5}, "invalid_type", ".role"),
        ({"role": "wizard", "content": "x"}, "invalid_value", ".role"),
        ({"role": "function", "name": "f", "content": "x"}, "unsupported_parameter", ".role"),
        ({"role": "user"}, "missing_required_parameter", ".content"),
        ({"role": "user", "content": None}, "missing_required_parameter", ".content"),
        ({"role": "user", "content": 5}, "invalid_type", ".content"),
        ({"role": "user", "content": []}, "invalid_value", ".content"),
        ({"role": "user", "content": [{"type": "text", "text": "x"}] * 2049}, "invalid_value", ".content"),
        ({"role": "user", "content": "x", "tool_call_id": "c"}, "unknown_parameter", ".tool_call_id"),
        ({"role": "user", "content": [{"type": "text", "text": "x", "uuid": "u"}]}, "unknown_parameter",
         ".content[0].uuid"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "invalid_type", ".content[0].text"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "unsupported_parameter",
         ".content[0].type"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "unsupported_parameter", ".content[0].type"),
        ({"role": "user", "content": [{"type": "image_embeds", "image_embeds": ""}]}, "invalid_value",
         ".content[0].type"),
        ({"role": "user", "content": [{"type": "video_url", "video_url": {}}]}, "invalid_value", ".content[0].type"),
        ({"role": "system", "content": [image("data:image/png;base64,AA")]}, "unsupported_parameter",
         ".content[0].type"),
        ({"role": "tool", "content": "x"}, "missing_required_parameter", ".tool_call_id"),
        ({"role": "assistant", "audio": {"id": "a"}}, "unsupported_parameter", ".audio"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "unsupported_parameter", ".function_call"),
        ({"role": "assistant", "prefix": True}, "unknown_parameter", ".prefix"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}, "unsupported_parameter",
         ".tool_calls[0].type"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]},
         "invalid_type", ".tool_calls[0].function.arguments"),
    ],
)  # fmt: skip
def test_a_message_that_cannot_be_is_named(message: Any, code: str, param: str) -> None:
    error = of_message(message)
    assert (error.code, error.param) == (code, f"messages[1]{param}")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://169.254.169.254/latest", "unsupported_parameter"),
        ("https://example.org/a.png", "unsupported_parameter"),
        ("file:///etc/passwd", "invalid_value"),
        ("data:text/html;base64,AA", "invalid_value"),
        ("data:image/svg+xml;base64,AA", "invalid_value"),
        ("data:image/png,AA", "invalid_value"),
        (" data:image/png;base64,AA", "invalid_value"),
        ("", "invalid_value"),
    ],
)
def test_an_image_from_elsewhere_is_refused(url: str, code: str) -> None:
    error = of_message({"role": "user", "content": [{"type": "text", "text": "see"}, image(url)]})
    assert (error.code, error.param) == (code, "messages[1].content[1].image_url.url")


def test_allowed_addresses_are_still_those_of_the_web() -> None:
    message = {"role": "user", "content": [image("file:///etc/passwd")]}
    error = refusal({"model": "a", "messages": [message]}, SurfaceSettings(fetch_image_urls=True))
    assert error.param == "messages[0].content[0].image_url.url"


def test_images_are_counted_over_all_messages() -> None:
    message = {"role": "user", "content": [image("data:image/png;base64,AA")] * 2}
    error = refusal({"model": "a", "messages": [message] * 2}, SurfaceSettings(max_images=3))
    assert (error.code, error.param) == ("invalid_value", "messages")


@pytest.mark.parametrize("arguments", ["[" * 65 + "]" * 65, "[" * 100_000, '{"a":' * 70])
def test_arguments_that_would_break_an_engine_are_refused(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    error = of_message({"role": "assistant", "tool_calls": [call]})
    assert (error.code, error.param) == ("invalid_value", "messages[1].tool_calls[0].function.arguments")


def test_arguments_may_be_long_and_a_models_mistake_may_be_echoed() -> None:
    for arguments in ("[" + "[]," * 5000 + "[]]", '{"a": [{"b":', ""):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
        body = {"model": "a", "messages": [{"role": "assistant", "tool_calls": [call]}]}
        told = json.loads(parse_chat_request(json.dumps(body).encode(), SURFACE).engine_messages_json)
        assert told == [{"role": "assistant", "tool_calls": [call]}]


@pytest.mark.parametrize("name", ["top_k", "min_p", "repetition_penalty", "chat_template_kwargs"])
def test_strict_knows_no_dialect(name: str) -> None:
    value = {"thinking": True} if name == "chat_template_kwargs" else 1
    error = of_fields(SurfaceSettings(extensions="strict"), **{name: value})
    assert (error.code, error.param) == ("unknown_parameter", name)
