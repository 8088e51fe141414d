"""langchain-openai, in its own environment, over the real vLLM. The calls are in `clients/langchain_client.py`."""

import pytest

from tests.conformance.conftest import Observed, Served, observe, python_of
from tests.conformance.embedder import vector_of

SCRIPT = "tests/conformance/clients/langchain_client.py"


@pytest.fixture(scope="module")
def seen(served: Served) -> Observed:
    """All that the script saw."""
    return observe(served, python_of("langchain"), SCRIPT)


def test_a_reply_has_text_tokens_and_signature(seen: Observed) -> None:
    reply = seen.value("whole")
    assert reply["text"]
    assert reply["usage"]["input_tokens"] > 0
    assert reply["usage"]["output_tokens"] == 8
    assert reply["metadata"]["finish_reason"] == "length"
    assert reply["metadata"]["model_name"].startswith("assistant")
    assert reply["metadata"]["system_fingerprint"]
    assert reply["metadata"]["id"].startswith("chatcmpl-")


def test_a_stream_adds_up_to_the_reply(seen: Observed) -> None:
    whole, streamed = seen.value("whole"), seen.value("streamed")
    assert streamed["pieces"] > 5
    assert streamed["text"] == whole["text"]
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        assert streamed["usage"][name] == whole["usage"][name]
    for name in ("finish_reason", "model_name", "system_fingerprint"):
        assert streamed["metadata"][name] == whole["metadata"][name]
    assert set(seen.value("without_usage")) == {None}


def test_asynchronous_batched_and_several(seen: Observed) -> None:
    text = seen.value("whole")["text"]
    assert [reply[:8] for reply in seen.value("asynchronous")] == [text[:8]] * 2
    assert seen.value("batched")[0][:8] == text[:8]
    assert len(seen.value("several")) == 3


def test_stops_and_log_probabilities(seen: Observed) -> None:
    assert "anub" in seen.value("whole")["text"]
    assert seen.value("stopped") == seen.value("whole")["text"].partition("anub")[0]
    assert [len(token["top_logprobs"]) for token in seen.value("probabilities")["content"]] == [2] * 4


def test_roles_turns_and_parts_reach_the_model(seen: Observed) -> None:
    assert "Rome" in seen.value("conversation")


@pytest.mark.parametrize("name", ["structured", "structured_by_function"])
def test_structured_output_is_parsed(seen: Observed, name: str) -> None:
    assert seen.value(name).keys() == {"name", "country", "capital"}


@pytest.mark.parametrize("name", ["tool_call", "streamed_tool_call"])
def test_a_tool_is_called(seen: Observed, name: str) -> None:
    said = seen.value(name)
    assert [call["name"] for call in said["calls"]] == ["get_weather"]
    assert said["calls"][0]["args"].keys() == {"city"}
    assert said["invalid_calls"] == []


def test_tools_and_their_results_are_taken(seen: Observed) -> None:
    offered = seen.value("tool_offered")
    assert offered["text"] or offered["calls"]
    assert seen.value("tool_result")


def test_embeddings(seen: Observed) -> None:
    assert seen.value("embeddings") == [vector_of("bread"), vector_of("a river")]


@pytest.mark.parametrize(
    ("name", "kind", "code", "param"),
    [
        ("wrong_key", "AuthenticationError", "invalid_api_key", None),
        ("unknown_model", "NotFoundError", "model_not_found", "model"),
        ("bad_parameter", "BadRequestError", "invalid_value", "temperature"),
        ("too_long", "BadRequestError", "context_length_exceeded", "messages"),
    ],
)
def test_refusals_are_the_right_exceptions(seen: Observed, name: str, kind: str, code: str, param: str | None) -> None:
    error = seen.error(name)
    assert kind in error["kinds"]
    assert (error["code"], error["param"]) == (code, param)


def test_a_prompt_that_is_too_long_is_langchains_context_overflow(seen: Observed) -> None:
    assert "ContextOverflowError" in seen.error("too_long")["kinds"]
