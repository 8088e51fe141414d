"""Every event and every response is one that the openai SDK knows, in an order that its own stream state follows."""

from typing import Any, cast

import pytest
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.wire.responses.events import ResponseEvents, whole_response
from gateway.wire.responses.request import parse_responses_request
from tests.conformance.strict import check

HEAD = {"id": "resp_01abc", "created": 1_700_000_000, "model": "assistant-20261123-1"}
WEATHER: dict[str, Any] = {"type": "function", "name": "weather", "parameters": {}, "strict": None}
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4},
}
known: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def chunk(finish_reason: str | None = None, usage: Any = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}]
    return {**HEAD, "choices": [] if usage else choices} | ({"usage": usage} if usage else {})


def call(index: int, name: str | None = None, arguments: str = "", call_id: str | None = None) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function}


def told(*chunks: dict[str, Any], fails: bool = False, **fields: Any) -> list[dict[str, Any]]:
    """All events of a stream, each checked against the SDK's types and fed to the SDK's own stream state."""
    events = ResponseEvents(parse_responses_request({"model": "assistant", "input": "hi"} | fields), "resp_01abc")
    all_of_it = [event for one in chunks for event in events.take(one)]
    all_of_it += events.fail("It broke.") if fails else events.end(1_700_000_009)
    state = ResponseStreamState[Any](input_tools=cast(Any, fields.get("tools", [])), text_format=omit)
    for number, event in enumerate(all_of_it):
        assert event["sequence_number"] == number
        read = known.validate_python(event)
        check(type(read), event)
        state.handle_event(read)
    return all_of_it


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def last(events: list[dict[str, Any]]) -> Response:
    return Response.model_validate(events[-1]["response"], strict=True)


def test_a_text_is_told_piece_by_piece() -> None:
    events = told(
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk("stop"),
        chunk(usage=USAGE),
    )
    assert types(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event["delta"] for event in events if "delta" in event] == ["Hel", "lo"]
    response = last(events)
    assert (response.id, response.status, response.output_text) == ("resp_01abc", "completed", "Hello")
    assert (response.model, response.created_at, response.completed_at) == (
        HEAD["model"],
        HEAD["created"],
        1_700_000_009,
    )
    assert response.usage is not None
    assert response.usage.model_dump(exclude_none=True) == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 12,
    }


def test_reasoning_is_an_item_of_its_own_before_the_text() -> None:
    events = told(chunk(reasoning="Hm"), chunk(reasoning_content=", so."), chunk(content="Yes."), chunk("stop"))
    assert types(events) == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta",
        "reasoning_text.done", "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    thought, message = last(events).output
    assert thought.type == "reasoning"
    assert thought.content is not None
    assert [part.text for part in thought.content] == ["Hm, so."]
    assert message.type == "message"
    assert [event["output_index"] for event in events if "output_index" in event] == [*[0] * 7, *[1] * 6]


def test_reasoning_said_under_both_names_is_told_once() -> None:
    events = told(chunk(reasoning="Hm", reasoning_content="Hm"), chunk("stop", content="Yes."))
    assert [event["delta"] for event in events if "delta" in event] == ["Hm", "Yes."]


def test_calls_that_an_engine_writes_at_once_stay_apart() -> None:
    events = told(
        chunk(content="Looking."),
        chunk(tool_calls=[call(0, "weather", "", "c1"), call(1, "weather", "", "c2")]),
        chunk(tool_calls=[call(1, arguments='{"in":"Oslo"}')]),
        chunk(tool_calls=[call(0, arguments='{"in":')]),
        chunk(tool_calls=[call(0, arguments='"Rome"}')]),
        chunk("tool_calls"),
        tools=[WEATHER],
    )
    message, first, second = last(events).output
    assert message.type == "message"
    assert first.type == second.type == "function_call"
    assert (first.call_id, first.name, first.arguments) == ("c1", "weather", '{"in":"Rome"}')
    assert (second.call_id, second.name, second.arguments) == ("c2", "weather", '{"in":"Oslo"}')
    done = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert [(event["item_id"], event["arguments"]) for event in done] == [
        (first.id, '{"in":"Rome"}'),
        (second.id, '{"in":"Oslo"}'),
    ]
    assert len({message.id, first.id, second.id}) == 3


@pytest.mark.parametrize(
    ("finish_reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_a_text_that_was_cut_is_incomplete(finish_reason: str, why: str) -> None:
    events = told(chunk(content="Hel"), chunk(finish_reason))
    response = last(events)
    assert types(events)[-1] == response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == why
    (message,) = response.output
    assert message.type == "message"
    assert message.status == "incomplete"
    assert response.completed_at is None


def test_an_answer_that_broke_off_ends_failed_and_never_completed() -> None:
    events = told(chunk(content="Hel"), fails=True)
    assert types(events)[-1] == "failed"
    assert not {"completed", "incomplete"} & set(types(events))
    response = last(events)
    assert response.error is not None
    assert (response.status, response.error.code, response.error.message) == ("failed", "server_error", "It broke.")
    (message,) = response.output
    assert message.type == "message"
    assert (message.status, message.content[0].type) == ("incomplete", "output_text")


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    events = told(chunk("stop", role="assistant"))
    assert last(events).output_text == ""
    assert len(last(events).output) == 1


def test_log_probabilities_come_with_each_piece_and_with_the_whole() -> None:
    likely = {"token": "e", "logprob": -1.5, "bytes": [101]}
    token = {"token": "é", "logprob": -0.5, "bytes": None, "top_logprobs": [likely]}
    events = told(chunk("stop", content="é", logprobs={"content": [token]}), top_logprobs=1)
    shown = {"token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9], "top_logprobs": [likely]}
    (delta,) = [event for event in events if event["type"].endswith("text.delta")]
    assert delta["logprobs"] == [
        {"token": "é", "logprob": -0.5, "top_logprobs": [{"token": "e", "logprob": -1.5}]}
    ]  # without bytes: so OpenAI's events have it
    assert last(events).output[0].model_dump()["content"][0]["logprobs"] == [shown]


def test_a_response_says_again_what_was_asked() -> None:
    asked: dict[str, Any] = {
        "instructions": "Be brief.", "max_output_tokens": 9, "metadata": {"k": "v"}, "temperature": 0.5, "top_p": 0.9,
        "parallel_tool_calls": False, "tools": [WEATHER], "tool_choice": "auto", "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}}, "user": "u",
        "safety_identifier": "s", "max_tool_calls": 2, "prompt_cache_key": "p",
    }  # fmt: skip
    response = last(told(chunk("stop", content="{}"), **asked))
    shown = response.model_dump(by_alias=True, exclude_none=True)
    assert {name: shown[name] for name in asked if name != "tools"} == {k: v for k, v in asked.items() if k != "tools"}
    assert [tool.type for tool in response.tools] == ["function"]


def test_a_whole_reply_makes_the_response_that_its_stream_would_have_ended_with() -> None:
    message: dict[str, Any] = {"role": "assistant", "content": "Hello", "reasoning": "Hm", "refusal": None}
    message["tool_calls"] = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    reply = {**HEAD, "usage": USAGE, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    request = parse_responses_request({"model": "assistant", "input": "hi", "tools": [WEATHER]})
    streamed = told(
        chunk(reasoning="Hm"), chunk(content="Hello"), chunk(tool_calls=[call(0, "weather", "{}", "c1")]),
        chunk("tool_calls"), chunk(usage=USAGE), tools=[WEATHER],
    )  # fmt: skip
    assert whole_response(request, "resp_01abc", reply, 1_700_000_009) == streamed[-1]["response"]
