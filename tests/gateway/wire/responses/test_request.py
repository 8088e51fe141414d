"""Every field of OpenAI's responses request has a decision, and what is taken becomes the chat request that says it."""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from openai.types.responses import response_create_params, response_input_item_param, tool_param
from openai.types.responses.response_includable import ResponseIncludable

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire.chat import parse_chat_request
from gateway.wire.chat_decisions import FORWARDED, HANDLED, REFUSED
from gateway.wire.responses.decisions import FIELDS
from gateway.wire.responses.refusal import put_in_own_words
from gateway.wire.responses.request import ResponsesRequest, chat_fields, parse_responses_request

SAMPLES: dict[str, Any] = {
    "access_programs": {"cyber": "standard"},
    "background": True,
    "background_options": {"completion_window": "2h"},
    "context_management": [{"type": "compaction"}],
    "conversation": "conv_1",
    "image": {"size": "auto"},
    "moderation": {"model": "m"},
    "previous_response_id": "resp_1",
    "prompt": {"id": "pmpt_1"},
    "service_tier": "flex",
    "truncation": "auto",
}
"""A value that asks for something, for each refused field."""
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}


def sdk_fields() -> set[str]:
    streaming = response_create_params.ResponseCreateParamsStreaming.__annotations__
    return {*response_create_params.ResponseCreateParamsBase.__annotations__, *streaming}


def asked(**fields: Any) -> ResponsesRequest:
    return parse_responses_request({"model": "assistant", "input": "hi"} | fields)


def chat(**fields: Any) -> dict[str, Any]:
    return chat_fields(asked(**fields))


def answered(**fields: Any) -> None:
    body = msgspec.json.encode(chat(**fields))
    try:
        parse_chat_request(body, SurfaceSettings())
    except InvalidRequest as error:
        put_in_own_words(error)
        raise


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        answered(**fields)
    return caught.value


def literals(hint: Any) -> set[str]:
    """Every literal text within a type."""
    inner = [literals(part) for part in get_args(hint) if not isinstance(part, str)]
    return {part for part in get_args(hint) if isinstance(part, str)}.union(*inner)


def test_every_field_of_the_sdk_has_a_decision_and_no_other_has() -> None:
    assert sdk_fields() == FIELDS.keys()


def test_a_refused_field_is_a_400_that_names_it() -> None:
    assert {name for name, decision in FIELDS.items() if decision.kind == REFUSED} == SAMPLES.keys()
    for name, value in SAMPLES.items():
        error = refused(**{name: value})
        assert (error.status, error.param, error.code) == (400, name, "unsupported_parameter")
        assert f"`{name}`" in error.message


def test_a_refused_field_that_asks_for_nothing_is_taken() -> None:
    for name, decision in FIELDS.items():
        if decision.kind == REFUSED:
            for value in (None, *decision.neutral):
                assert chat(**{name: value}) == chat()
    assert refused(background=0).param == "background"  # 0 is not `false`


def test_every_taken_field_is_one_of_the_request_model() -> None:
    taken = {name for name, decision in FIELDS.items() if decision.kind in (FORWARDED, HANDLED)}
    assert taken == ResponsesRequest.model_fields.keys()


def test_an_unknown_field_is_refused_by_name() -> None:
    error = refused(reasoning_effort="low")
    assert (error.param, error.code) == ("reasoning_effort", "unknown_parameter")


def test_a_text_with_instructions_becomes_two_messages() -> None:
    assert chat(instructions="Be brief.", input="Why?") == {
        "model": "assistant",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        "stream": False,
    }


def test_a_conversation_with_calls_becomes_the_messages_that_say_it() -> None:
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather in Rome and Oslo?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "Looking.", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": '{"in":"Rome"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"in":"Oslo"}', "status": None},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "snow"}]},
    ]  # fmt: skip
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"in":"Rome"}'}},
        {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"in":"Oslo"}'}},
    ]
    assert chat(input=items)["messages"] == [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather in Rome and Oslo?"},
        {"role": "assistant", "content": "Looking.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "snow"},
    ]


def test_images_come_as_chat_parts_and_files_are_refused() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    text = {"type": "input_text", "text": "What is it?"}
    (message,) = chat(input=[{"role": "user", "content": [text, image]}])["messages"]
    assert message["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
    ]
    by_file = {"type": "input_image", "file_id": "file_1"}
    assert refused(input=[{"role": "user", "content": [by_file]}]).param == "input[0].content[0].file_id"
    assert refused(input=[{"role": "user", "content": [{"type": "input_file"}]}]).param == "input[0].content[0].type"
    assert refused(input=[{"role": "assistant", "content": [image]}]).param == "input[0].content"


def test_every_item_type_of_the_sdk_is_read_or_refused_by_name() -> None:
    types = set()
    for item in get_args(response_input_item_param.ResponseInputItemParam):
        types |= literals(get_type_hints(item).get("type"))
    assert {"message", "function_call", "mcp_call", "item_reference", "shell_call"} <= types  # the list is real
    for kind in types - {"message", "function_call", "function_call_output", "reasoning"}:
        error = refused(input=[{"type": kind, "id": "x"}])
        assert (error.param, error.code) == ("input[0].type", "unsupported_parameter")
    assert refused(input=[{"id": "msg_1"}]).param == "input[0].type"


def test_every_tool_type_of_the_sdk_but_functions_is_refused_by_name() -> None:
    types = set()
    for tool in get_args(tool_param.ToolParam):
        types |= literals(get_type_hints(tool)["type"])
    assert {"function", "mcp", "web_search", "code_interpreter", "custom"} <= types
    for kind in types - {"function"}:
        error = refused(tools=[WEATHER, {"type": kind}])
        assert (error.param, error.code) == ("tools[1].type", "unsupported_parameter")


def test_tools_and_choices_are_those_of_a_chat() -> None:
    function = {"name": "weather", "parameters": {"type": "object"}, "strict": True}
    sent = chat(tools=[WEATHER], tool_choice={"type": "function", "name": "weather"}, parallel_tool_calls=False)
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert sent["parallel_tool_calls"] is False
    for choice in ("none", "auto", "required"):
        assert chat(tools=[WEATHER], tool_choice=choice)["tool_choice"] == choice


def test_allowed_tools_are_the_only_ones_that_the_model_is_shown() -> None:
    other = {"type": "function", "name": "clock"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "clock"}]}
    sent = chat(tools=[WEATHER, other], tool_choice=allowed)
    assert (sent["tools"], sent["tool_choice"]) == ([{"type": "function", "function": {"name": "clock"}}], "required")
    nobody = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": ["clock"]}]}
    assert refused(tools=[WEATHER], tool_choice=nobody).param == "tool_choice.tools"


@pytest.mark.parametrize("choice", ["sometimes", {"type": "web_search_preview"}, {"type": "mcp", "server_label": "x"}])
def test_a_choice_that_cannot_be_made_is_refused(choice: Any) -> None:
    assert (refused(tools=[WEATHER], tool_choice=choice).param or "").startswith("tool_choice")


def test_formats_are_those_of_a_chat() -> None:
    schema = {"type": "object", "properties": {}}
    written = {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}
    assert "response_format" not in chat(text={"format": {"type": "text"}})
    assert chat(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert chat(text={"format": written})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


def test_sampling_and_the_rest_keep_their_values() -> None:
    sent = chat(
        temperature=0.5, top_p=0.9, max_output_tokens=7, reasoning={"effort": "low", "summary": "auto"}, user="u",
        safety_identifier="s", store=False, metadata={"k": "v"}, prompt_cache_key="p", top_logprobs=2,
        include=["message.output_text.logprobs", "reasoning.encrypted_content"], stream=True, max_tool_calls=3,
        prompt_cache_retention="24h", stream_options={"include_obfuscation": True}, text={"verbosity": "medium"},
    )  # fmt: skip
    del sent["messages"]
    assert sent == {
        "model": "assistant", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5,
        "top_p": 0.9, "max_completion_tokens": 7, "reasoning_effort": "low", "user": "u", "safety_identifier": "s",
        "store": False, "metadata": {"k": "v"}, "prompt_cache_key": "p", "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip


def test_what_the_chat_request_refuses_is_told_in_the_words_of_this_route() -> None:
    told: dict[str, dict[str, Any]] = {
        "max_output_tokens": {"max_output_tokens": 0},
        "reasoning.effort": {"reasoning": {"effort": "a lot"}},
        "temperature": {"temperature": 3},
        "text.format.schema": {"text": {"format": {"type": "json_schema", "name": "a"}}},
        "text.format.name": {"text": {"format": {"type": "json_schema", "schema": {}, "name": "not a name"}}},
        "tools[0].name": {"tools": [{"type": "function", "name": "not a name"}]},
        "tools[0].parameters": {"tools": [WEATHER | {"parameters": {"$ref": "#/nowhere"}}]},
    }
    for param, fields in told.items():
        error = refused(**fields)
        assert (error.param, f"`{param}`" in error.message) == (param, True)


def test_values_that_cannot_be_are_refused_by_name() -> None:
    told: dict[str, dict[str, Any]] = {
        "input": {"input": 3},
        "input[0].role": {"input": [{"role": "tool", "content": "x"}]},
        "input[0].content": {"input": [{"role": "user"}]},
        "input[0].content[0].text": {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        "input[0].colour": {"input": [{"role": "user", "content": "x", "colour": "red"}]},
        "input[0].call_id": {"input": [{"type": "function_call_output", "output": "x"}]},
        "input[0].output": {"input": [{"type": "function_call_output", "call_id": "c", "output": 3}]},
        "text.verbosity": {"text": {"verbosity": "low"}},
        "reasoning.summary": {"reasoning": {"summary": "detailed"}},
        "tools[0].defer_loading": {"tools": [WEATHER | {"defer_loading": True}]},
        "tools[0].colour": {"tools": [WEATHER | {"colour": "red"}]},
        "stream": {"stream": "yes"},
        "include[0]": {"include": ["file_search_call.results"]},
    }
    for param, fields in told.items():
        assert refused(**fields).param == param
    assert refused(model=None).code == "missing_required_parameter"


def test_what_can_be_included_is_on_the_sdk_s_list() -> None:
    names = set(get_args(ResponseIncludable))
    assert {"message.output_text.logprobs", "reasoning.encrypted_content"} <= names
    for name in names - {"message.output_text.logprobs", "reasoning.encrypted_content"}:
        assert refused(include=[name]).param == "include[0]"
