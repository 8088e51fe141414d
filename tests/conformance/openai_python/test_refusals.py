"""Every refusal is the right exception of the openai SDK, with the right fields, in the envelope."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.conformance.openai_python.conftest import Asking
from tests.conformance.strict import check_error


def refused(kind: type[openai.APIStatusError], call: Any, **fields: Any) -> openai.APIStatusError:
    """The error that a call ends with, its body and headers checked."""
    with pytest.raises(kind) as caught:
        call(**fields)
    error = caught.value
    assert type(error) is kind
    check_error(error.response.json())
    assert error.response.headers["content-type"] == "application/json"
    assert error.request_id
    return error


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key(ask: Asking, client: OpenAI, stream: bool) -> None:
    create = client.with_options(api_key="sk-wrong").chat.completions.create
    error = refused(openai.AuthenticationError, create, **ask.fields(stream=stream))
    assert (error.status_code, error.code) == (401, "invalid_api_key")
    refused(openai.AuthenticationError, client.with_options(api_key="sk-wrong").models.list)


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model(ask: Asking, client: OpenAI, stream: bool) -> None:
    error = refused(
        openai.NotFoundError, client.chat.completions.create, **ask.fields(model="gpt-unknown", stream=stream)
    )
    assert (error.status_code, error.code, error.param) == (404, "model_not_found", "model")
    assert "gpt-unknown" in error.message
    error = refused(openai.NotFoundError, client.models.retrieve, model="gpt-unknown")
    assert error.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 99}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"stop": [""]}, "stop[0]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"reasoning_effort": "frantic"}, "reasoning_effort"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"extra_body": {"request_id": "mine"}}, "request_id"),
        ({"extra_body": {"chat_template": "{{ 1 }}"}}, "chat_template"),
    ],
    ids=str,
)
def test_a_bad_parameter_is_named(ask: Asking, client: OpenAI, fields: dict[str, Any], param: str) -> None:
    error = refused(openai.BadRequestError, client.chat.completions.create, **ask.fields(**fields))
    assert error.status_code == 400
    assert error.param == param
    assert error.code
    assert error.type == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{"messages": "river " * 2000}, {"max_tokens": 100_000}], ids=["prompt", "answer"])
def test_more_than_the_context_holds(ask: Asking, client: OpenAI, fields: dict[str, Any], stream: bool) -> None:
    error = refused(openai.BadRequestError, client.chat.completions.create, **ask.fields(stream=stream, **fields))
    assert error.code == "context_length_exceeded"
    assert len(error.message) < 1000


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/missing"}}},
        {"type": "strange"},
    ],
    ids=["loop", "nowhere", "type"],
)
def test_a_schema_that_cannot_be_followed(ask: Asking, client: OpenAI, schema: Any, stream: bool) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    error = refused(
        openai.BadRequestError, client.chat.completions.create, **ask.fields(response_format=asked, stream=stream)
    )
    assert (error.param or "").startswith("response_format")


def test_images_are_refused_by_a_model_of_text(ask: Asking, client: OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    error = refused(openai.BadRequestError, client.chat.completions.create, **ask.fields(messages=messages))
    assert (error.param or "").startswith("messages")


def test_an_unknown_path(client: OpenAI) -> None:
    error = refused(openai.NotFoundError, client.post, path="/nowhere", cast_to=object, body={})
    assert error.status_code == 404
    refused(openai.NotFoundError, client.get, path="/nowhere", cast_to=object)


def test_a_method_that_a_path_does_not_take(client: OpenAI) -> None:
    error = refused(openai.APIStatusError, client.put, path="/chat/completions", cast_to=object, body={})
    assert error.status_code == 405
    assert "POST" in error.response.headers["allow"]


def test_a_body_that_is_too_large(ask: Asking, client: OpenAI) -> None:
    error = refused(openai.APIStatusError, client.chat.completions.create, **ask.fields(messages="a" * (5 << 20)))
    assert error.status_code == 413


def test_a_media_type_that_is_not_json(ask: Asking, client: OpenAI) -> None:
    error = refused(
        openai.APIStatusError,
        client.chat.completions.create,
        **ask.fields(extra_headers={"content-type": "text/plain"}),
    )
    assert error.status_code == 415
