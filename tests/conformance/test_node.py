"""openai-node over the real vLLM, its replies held to the same types. The calls are in `clients/node_client.mjs`."""

import json

import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from tests.conformance.conftest import Observed, Served, node_and_packages, observe
from tests.conformance.embedder import vector_of
from tests.conformance.strict import check

SCRIPT = "tests/conformance/clients/node_client.mjs"


@pytest.fixture(scope="module")
def seen(served: Served) -> Observed:
    """All that the script saw."""
    node, packages = node_and_packages()
    return observe(served, node, SCRIPT, packages)


@pytest.mark.parametrize("name", ["whole", "several", "probabilities", "tool_call", "tool_offered", "conversation"])
def test_replies_are_of_the_sdks_type(seen: Observed, name: str) -> None:
    check(ChatCompletion, seen.value(name))


def test_a_stream_adds_up_to_the_reply(seen: Observed) -> None:
    chunks, whole = seen.value("streamed"), seen.value("whole")
    for chunk in [*chunks, *seen.value("without_usage")]:
        check(ChatCompletionChunk, chunk)
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert not any("usage" in chunk for chunk in seen.value("without_usage"))
    assert seen.value("assembled")["choices"][0]["message"]["content"] == text


def test_several_choices_and_log_probabilities(seen: Observed) -> None:
    assert [choice["index"] for choice in seen.value("several")["choices"]] == [0, 1]
    tokens = seen.value("probabilities")["choices"][0]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in tokens] == [2] * 4


def test_roles_turns_and_parts_reach_the_model(seen: Observed) -> None:
    assert "Rome" in seen.value("conversation")["choices"][0]["message"]["content"]


def test_structured_output_keeps_to_its_schema(seen: Observed) -> None:
    parsed = seen.value("structured")["choices"][0]["message"]["parsed"]
    assert parsed is None or parsed.keys() == {"name", "country"}
    found = json.loads(seen.value("structured")["choices"][0]["message"]["content"])
    assert found.keys() == {"name", "country"}


@pytest.mark.parametrize("name", ["tool_call", "streamed_tool_call"])
def test_a_tool_is_called(seen: Observed, name: str) -> None:
    calls = seen.value(name)["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["get_weather"]
    assert json.loads(calls[0]["function"]["arguments"]).keys() == {"name", "country"}


def test_other_routes(seen: Observed) -> None:
    response = seen.value("response")
    response.pop("output_text")  # the SDK adds it
    check(Response, response)
    text = seen.value("whole")["choices"][0]["message"]["content"]
    assert response["output"][0]["content"][0]["text"] == text
    kinds = seen.value("response_events")
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")
    check(Completion, seen.value("legacy"))
    assert seen.value("embeddings")["data"][0]["embedding"] == vector_of("bread")
    stored = seen.value("stored")
    assert stored["listed"] == stored["made"]
    assert stored["deleted"] is True


def test_models(seen: Observed, served: Served) -> None:
    for model in [*seen.value("models"), seen.value("model")]:
        check(Model, model)
    assert seen.value("model")["id"] == served.model


def test_a_stream_can_be_left(seen: Observed) -> None:
    assert seen.value("cancelled") == 3


def test_every_answer_has_a_request_id(seen: Observed) -> None:
    assert seen.value("request_id")
    assert seen.error("bad_parameter")["request_id"]


@pytest.mark.parametrize(
    ("name", "kind", "status", "code", "param"),
    [
        ("wrong_key", "AuthenticationError", 401, "invalid_api_key", None),
        ("unknown_model", "NotFoundError", 404, "model_not_found", "model"),
        ("unknown_model_streamed", "NotFoundError", 404, "model_not_found", "model"),
        ("bad_parameter", "BadRequestError", 400, "invalid_value", "temperature"),
        ("too_long", "BadRequestError", 400, "context_length_exceeded", "messages"),
        ("too_large", "APIError", 413, "request_too_large", None),
        ("unknown_path", "NotFoundError", 404, "unknown_url", None),
        ("method_not_allowed", "APIError", 405, "method_not_allowed", None),
    ],
)
def test_refusals_are_the_right_exceptions(
    seen: Observed, name: str, kind: str, status: int, code: str, param: str | None
) -> None:
    error = seen.error(name)
    assert error["kinds"][0] == kind
    assert (error["status"], error["code"], error["param"]) == (status, code, param)
