"""What a chat request becomes: only typed values go on, nothing is lost that matters, and the rest is answered for."""

import json
from typing import Any

import pytest

from gateway.contracts.message import Message
from gateway.relay.admission import estimated_tokens
from gateway.settings import SurfaceSettings
from gateway.wire.chat import ChatRequest, parse_chat_request

SURFACE = SurfaceSettings()
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def parsed(messages: list[Any] | None = None, surface: SurfaceSettings = SURFACE, **fields: Any) -> ChatRequest:
    asked = {"model": "assistant", "messages": messages or [{"role": "user", "content": "hi"}]} | fields
    return parse_chat_request(json.dumps(asked).encode(), surface)


def to_engine(*messages: dict[str, Any]) -> Any:
    return json.loads(parsed(list(messages)).engine_messages_json)


def test_a_plain_request_has_its_defaults() -> None:
    request = parsed()
    assert (request.model, request.stream, request.choices, request.wants_usage) == ("assistant", False, 1, False)
    assert (request.end_user, request.store, request.metadata, request.prompt_cache_key) == (None, None, None, None)
    assert (request.max_tokens_asked, request.images, request.asks_grammar) == (None, 0, False)
    assert request.engine_messages_json == b'[{"role":"user","content":"hi"}]'
    assert request.stored_messages_json == request.engine_messages_json
    assert (request.parameters_json, request.metadata_json) == (b"{}", b"{}")
    assert request.first_user_text() == "hi"


def test_handled_fields_are_told_and_go_to_no_engine() -> None:
    request = parsed(
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        user="u",
        safety_identifier="s",
        store=False,
        metadata={"k": "v"},
        prompt_cache_key="c",
        prompt_cache_options={"mode": "explicit", "ttl": "30m"},
        prompt_cache_retention="24h",
    )
    assert (request.stream, request.wants_usage, request.end_user, request.store) == (True, True, "s", False)
    assert (request.metadata, request.metadata_json, request.prompt_cache_key) == ({"k": "v"}, b'{"k":"v"}', "c")
    assert request.parameters_json == b"{}"


def test_an_end_user_is_the_user_where_no_safety_identifier_says_otherwise() -> None:
    assert parsed(user="u").end_user == "u"


def test_a_field_that_is_null_counts_as_left_out() -> None:
    names = ("temperature", "n", "stop", "tools", "functions", "audio", "service_tier", "no_such_field", "stream")
    nulls: dict[str, Any] = dict.fromkeys(names)
    assert parsed(**nulls).parameters_json == b"{}"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"stop": []}, {}),
        ({"tools": []}, {}),
        ({"tool_choice": "none"}, {}),
        ({"parallel_tool_calls": False}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"chat_template_kwargs": {}}, {}),
        ({"max_tokens": 3, "max_completion_tokens": 3}, {"max_tokens": 3, "max_completion_tokens": 3}),
        ({"temperature": 1, "top_p": 1}, {"temperature": 1.0, "top_p": 1.0}),
        ({"logit_bias": {"50256": -100}}, {"logit_bias": {"50256": -100}}),
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"seed": -(2**63)}, {"seed": -(2**63)}),
    ],
)
def test_parameters_take_one_form(asked: dict[str, Any], told: dict[str, Any]) -> None:
    request = parsed(**asked)
    assert json.loads(request.parameters_json) == told
    assert request.parameters() == told


def test_the_larger_name_for_the_token_limit_is_the_one_asked_for() -> None:
    assert parsed(max_tokens=7).max_tokens_asked == 7
    assert parsed(max_completion_tokens=9).max_tokens_asked == 9


def test_tools_and_formats_ask_for_a_grammar_and_arrive_whole() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Kraków", "京都"]}}}
    function = {"name": "weather", "description": "now", "parameters": schema, "strict": True}
    fields: dict[str, Any] = {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": schema, "strict": True}},
    }
    request = parsed(**fields)
    assert request.asks_grammar
    assert json.loads(request.parameters_json) == fields
    assert parsed(response_format={"type": "json_object"}).asks_grammar


def test_of_allowed_tools_an_engine_is_told_those_alone() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b", "c")]
    allowed = {"mode": "required", "tools": [tools[2], tools[0]]}
    request = parsed(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert request.parameters() == {"tools": [tools[0], tools[2]], "tool_choice": "required"}


def test_a_function_without_parameters_has_none() -> None:
    for function in ({"name": "f"}, {"name": "f", "parameters": None, "description": None, "strict": None}):
        told = parsed(tools=[{"type": "function", "function": function}]).parameters()
        assert told == {"tools": [{"type": "function", "function": {"name": "f"}}]}


def test_every_role_arrives() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be kind", "name": "boss"},
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": "what is the weather?", "name": "ann"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "Rain."},
    ]
    assert to_engine(*messages) == messages
    assert parsed(messages).stored_messages() == [Message.model_validate(message) for message in messages]


def test_what_clients_echo_is_taken_and_goes_no_further() -> None:
    """A dump of the openai SDK's message, `parsed` and all, and fields that only other servers know, unset."""
    call: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    echoed = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}],
        "audio": None,
        "function_call": None,
        "parsed": {"city": "Kraków"},
        "provider_specific_fields": None,
        "tool_calls": [call | {"index": 0, "extra": None, "function": call["function"] | {"parsed_arguments": {}}}],
    }
    assert to_engine(echoed) == [{"role": "assistant", "tool_calls": [call]}]
    assert to_engine({"role": "assistant", "content": "x", "tool_calls": []}) == [{"role": "assistant", "content": "x"}]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_stored_apart_and_not_forwarded(name: str) -> None:
    messages = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4", name: "two and two"}]
    request = parsed(messages)
    assert json.loads(request.engine_messages_json)[1] == {"role": "assistant", "content": "4"}
    stored = {"role": "assistant", "content": "4", "reasoning": "two and two"}
    assert json.loads(request.stored_messages_json)[1] == stored
    assert request.stored_messages()[1].reasoning == "two and two"


def test_a_refusal_part_is_text_to_engine_and_record() -> None:
    request = parsed([{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}])
    assert json.loads(request.engine_messages_json) == [
        {"role": "assistant", "content": [{"type": "text", "text": "No."}]}
    ]
    assert request.stored_messages_json == request.engine_messages_json


def test_images_are_data_unless_addresses_are_allowed() -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}]
    request = parsed([{"role": "user", "content": parts}])
    assert request.images == 1
    assert json.loads(request.engine_messages_json)[0]["content"] == parts
    assert request.first_user_text() == "see"
    address = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]
    assert parsed(address, SurfaceSettings(fetch_image_urls=True)).images == 1


def test_cache_breakpoints_are_taken_and_not_forwarded() -> None:
    part = {"type": "text", "text": "long", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}
    assert to_engine({"role": "user", "content": [part]})[0]["content"] == [{"type": "text", "text": "long"}]


def test_the_first_user_text_is_the_first_users() -> None:
    turns = [("system", "s"), ("assistant", "a"), ("user", "one"), ("user", "two")]
    assert parsed([{"role": role, "content": text} for role, text in turns]).first_user_text() == "one"
    assert parsed([{"role": "system", "content": "s"}]).first_user_text() == ""


def test_of_a_key_that_comes_twice_the_engine_is_told_the_value_that_was_checked() -> None:
    body = b'{"model":"a","temperature":2,"temperature":1,"messages":[{"role":"user","content":"1","content":"2"}]}'
    request = parse_chat_request(body, SURFACE)
    assert request.parameters_json == b'{"temperature":1.0}'
    assert request.engine_messages_json == b'[{"role":"user","content":"2"}]'


def test_text_survives_unchanged() -> None:
    text = 'quotes " \\ tabs \t, NUL \0, \u2028, 日本語, \U0001f600, </script>'
    assert to_engine({"role": "user", "content": text}) == [{"role": "user", "content": text}]


def test_strict_takes_nulls_of_the_dialect_and_nothing_else_of_it() -> None:
    assert parsed(surface=SurfaceSettings(extensions="strict"), top_k=None).parameters_json == b"{}"


def test_an_image_costs_the_same_however_large_its_file_is() -> None:
    def asked(image_bytes: int) -> ChatRequest:
        url = "data:image/png;base64," + "A" * image_bytes
        parts = [{"type": "text", "text": "x" * 4000}, {"type": "image_url", "image_url": {"url": url}}]
        body = {"model": "m", "messages": [{"role": "user", "content": parts}], "max_tokens": 50}
        return parse_chat_request(json.dumps(body).encode(), SurfaceSettings())

    small, large = estimated_tokens(asked(100)), estimated_tokens(asked(2_000_000))
    assert small == large
    assert 2050 <= small <= 2100  # 1,000 for the text, 1,000 for the image, 50 for the answer, and some for the JSON
