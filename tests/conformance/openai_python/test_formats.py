"""JSON and tools: a weak model is held to them by grammars, so whatever it says must fit."""

import json
import re
from typing import Any, Literal

import jsonschema
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field

from tests.conformance.openai_python.conftest import Asking, ends_of, text_of
from tests.conformance.strict import check

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "country": {"enum": ["France", "Italy", "Spain"]},
        "rivers": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 1},
    },
    "required": ["city", "country", "rivers"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
ASKED = "What is the weather in Paris?"


class City(BaseModel):
    """What the SDK makes a schema of."""

    name: str = Field(max_length=12)
    country: Literal["France", "Italy"]
    capital: bool


def arguments_of(text: str) -> dict[str, Any]:
    """Decoded, if they fit the tool's parameters."""
    arguments: dict[str, Any] = json.loads(text)
    jsonschema.validate(arguments, WEATHER["function"]["parameters"])
    return arguments


def test_json_objects_are_json_objects(ask: Asking) -> None:
    choice = ask.whole(
        messages="Name a city and its country as a short JSON object.",
        response_format={"type": "json_object"},
        max_tokens=300,
    ).choices[0]
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content or ""), dict)
    else:
        assert (choice.message.content or "").lstrip().startswith("{")


def test_a_json_schema_is_kept_to(ask: Asking) -> None:
    choice = ask.whole(messages="Describe Paris.", response_format=FORMAT, max_tokens=200).choices[0]
    assert choice.finish_reason == "stop"
    jsonschema.validate(json.loads(choice.message.content or ""), SCHEMA)


def test_a_streamed_json_schema_is_kept_to(ask: Asking) -> None:
    chunks = ask.chunks(messages="Describe Paris.", response_format=FORMAT, max_tokens=200)
    assert ends_of(chunks) == {0: ["stop"]}
    jsonschema.validate(json.loads(text_of(chunks)), SCHEMA)


def test_a_schema_may_refer_to_itself(ask: Asking) -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
        "required": ["next"],
        "additionalProperties": False,
    }
    asked = {"type": "json_schema", "json_schema": {"name": "node", "strict": True, "schema": node}}
    said = ask.whole(response_format=asked, max_tokens=16).choices[0].message.content or ""
    assert re.match(r'\{\s*"next"\s*:\s*(null\s*\}|\{)', said)


def test_parse_gives_a_pydantic_object(ask: Asking, client: OpenAI) -> None:
    fields = ask.fields(messages="Is Paris a capital?", max_tokens=100)
    reply = client.chat.completions.parse(**fields, response_format=City)
    assert isinstance(reply.choices[0].message.parsed, City)


@pytest.mark.parametrize("choice", [NAMED, "required"], ids=["named", "required"])
def test_a_tool_that_must_be_called_is_called(ask: Asking, choice: Any) -> None:
    said = ask.whole(messages=ASKED, tools=[WEATHER], tool_choice=choice, max_tokens=100).choices[0]
    calls = said.message.tool_calls or []
    assert [call.type for call in calls] == ["function"]
    call = calls[0]
    assert call.type == "function"
    assert call.id
    assert call.function.name == "get_weather"
    arguments_of(call.function.arguments)
    # OpenAI says `stop` after a call by name, `tool_calls` after one that the model chose.
    assert said.finish_reason == ("stop" if choice == NAMED else "tool_calls")


@pytest.mark.parametrize("choice", [NAMED, "required"], ids=["named", "required"])
def test_a_streamed_call_comes_in_pieces_of_one_call(ask: Asking, choice: Any) -> None:
    chunks = ask.chunks(messages=ASKED, tools=[WEATHER], tool_choice=choice, max_tokens=100)
    pieces = [piece for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or []]
    assert {piece.index for piece in pieces} == {0}
    assert [piece.id for piece in pieces if piece.id][1:] == []
    assert pieces[0].id
    assert pieces[0].type == "function"
    functions = [piece.function for piece in pieces if piece.function]
    assert [function.name for function in functions if function.name] == ["get_weather"]
    arguments_of("".join(function.arguments or "" for function in functions))
    assert ends_of(chunks) == {0: ["stop" if choice == NAMED else "tool_calls"]}


def test_arguments_are_json_even_of_a_tool_that_is_not_strict(ask: Asking) -> None:
    function = {name: value for name, value in WEATHER["function"].items() if name != "strict"}
    loose = {"type": "function", "function": function}
    calls = ask.whole(messages=ASKED, tools=[loose], tool_choice=NAMED, max_tokens=100).choices[0].message.tool_calls
    assert calls is not None
    call = calls[0]
    assert call.type == "function"
    json.loads(call.function.arguments)


@pytest.mark.parametrize("options", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}], ids=str)
def test_tools_that_need_not_be_called_are_taken(ask: Asking, options: dict[str, Any]) -> None:
    choice = ask.whole(messages="hi", tools=[WEATHER], **options).choices[0]
    assert choice.message.content or choice.message.tool_calls
    if options.get("tool_choice") == "none":
        assert choice.message.tool_calls is None


def test_a_call_and_its_result_are_taken_as_turns(ask: Asking) -> None:
    asked = {"role": "user", "content": ASKED}
    said = ask.whole(messages=[asked], tools=[WEATHER], tool_choice=NAMED, max_tokens=100).choices[0].message
    calls = said.tool_calls or []
    result = {"role": "tool", "tool_call_id": calls[0].id, "content": '{"degrees": 21}'}
    reply = ask.whole(messages=[asked, said, result], tools=[WEATHER], tool_choice="none")
    assert reply.choices[0].message.content


def test_the_sdks_tool_parsing_reads_the_arguments(ask: Asking, client: OpenAI) -> None:
    fields = ask.fields(messages=ASKED, tools=[WEATHER], tool_choice=NAMED, max_tokens=100)
    response = client.chat.completions.with_raw_response.parse(**fields)
    check(ChatCompletion, response.http_response.json())
    call = (response.parse().choices[0].message.tool_calls or [])[0]
    assert set(call.function.parsed_arguments or {}) == {"city"}
