"""litellm's SDK, in its own environment, over the real vLLM. The calls are in `clients/litellm_client.py`."""

import json
from typing import Any

import pytest

from tests.conformance.conftest import Observed, Served, observe, python_of
from tests.conformance.embedder import vector_of

SCRIPT = "tests/conformance/clients/litellm_client.py"


@pytest.fixture(scope="module")
def seen(served: Served) -> Observed:
    """All that the script saw."""
    return observe(served, python_of("litellm"), SCRIPT)


def text_of(reply: Any) -> str:
    return str(reply["choices"][0]["message"]["content"])


def test_a_reply_has_text_tokens_and_signature(seen: Observed) -> None:
    reply = seen.value("whole")
    assert text_of(reply)
    assert reply["id"].startswith("chatcmpl-")
    assert reply["system_fingerprint"]
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 8
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + 8


def test_a_stream_adds_up_to_the_reply(seen: Observed) -> None:
    whole, streamed = seen.value("whole"), seen.value("streamed")
    assert streamed["pieces"] > 5
    assert text_of(streamed) == text_of(whole)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert streamed["usage"][name] == whole["usage"][name]
    assert seen.value("asynchronous") == text_of(whole)


def test_several_choices_and_log_probabilities(seen: Observed) -> None:
    assert [choice["index"] for choice in seen.value("several")["choices"]] == [0, 1]
    tokens = seen.value("probabilities")["choices"][0]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in tokens] == [2] * 4


def test_structured_output_keeps_to_its_schema(seen: Observed) -> None:
    found = json.loads(text_of(seen.value("structured")))
    assert found.keys() == {"name", "country"}
    assert found["country"] in ("France", "Italy")


@pytest.mark.parametrize("name", ["tool_call", "streamed_tool_call"])
def test_a_tool_is_called(seen: Observed, name: str) -> None:
    calls = seen.value(name)["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["get_weather"]
    assert json.loads(calls[0]["function"]["arguments"]).keys() == {"city"}


def test_tools_that_need_not_be_called_are_taken(seen: Observed) -> None:
    message = seen.value("tool_offered")["choices"][0]["message"]
    assert message["content"] or message["tool_calls"]


def test_embeddings(seen: Observed) -> None:
    assert [item["embedding"] for item in seen.value("embeddings")["data"]] == [vector_of("bread")]


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("wrong_key", "AuthenticationError", 401),
        ("unknown_model", "NotFoundError", 404),
        ("bad_parameter", "BadRequestError", 400),
        ("too_long", "ContextWindowExceededError", 400),
    ],
)
def test_refusals_are_the_right_exceptions(seen: Observed, name: str, kind: str, status: int) -> None:
    error = seen.error(name)
    assert kind in error["kinds"]
    assert error["status_code"] == status
