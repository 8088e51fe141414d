"""The responses route through the openai SDK: stateless text, tools and streams."""

import json
from typing import Any, Literal

import jsonschema
import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, Field

from tests.conformance.openai_python.conftest import QUESTION, Asking
from tests.conformance.openai_python.test_formats import ASKED, SCHEMA, WEATHER, arguments_of
from tests.conformance.strict import check, check_error

TOOL = {"type": "function", **WEATHER["function"]}
FORMAT = {"format": {"type": "json_schema", "name": "city", "strict": True, "schema": SCHEMA}}


class City(BaseModel):
    """What the SDK makes a schema of."""

    name: str = Field(max_length=12)
    country: Literal["France", "Italy"]


@pytest.fixture
def fields(ask: Asking) -> dict[str, Any]:
    """A short greedy request."""
    return {"model": ask.model, "input": QUESTION, "temperature": 0, "max_output_tokens": 6}


def whole(client: OpenAI, **fields: Any) -> Response:
    response = client.responses.with_raw_response.create(**fields)
    check(Response, response.http_response.json())
    return response.parse()


def events(client: OpenAI, **fields: Any) -> list[Any]:
    """All events, numbered from 0 without a gap."""
    found = list(client.responses.create(**fields, stream=True))
    for event in found:
        check(ResponseStreamEvent, event.to_dict(exclude_unset=True))
    assert [event.sequence_number for event in found] == list(range(len(found)))
    return found


def test_a_response_says_what_a_chat_completion_says(client: OpenAI, ask: Asking, fields: dict[str, Any]) -> None:
    reply, chat = whole(client, **fields), ask.whole()
    assert reply.id.startswith("resp_")
    assert reply.output_text == chat.choices[0].message.content
    assert reply.status == "incomplete"
    assert reply.incomplete_details is not None
    assert reply.incomplete_details.reason == "max_output_tokens"
    assert reply.usage is not None
    assert chat.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (
        chat.usage.prompt_tokens,
        chat.usage.completion_tokens,
    )


def test_a_stream_adds_up_to_the_response(client: OpenAI, fields: dict[str, Any]) -> None:
    found = events(client, **fields)
    kinds = [event.type for event in found]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.incomplete"
    text = "".join(event.delta for event in found if event.type == "response.output_text.delta")
    assert text == whole(client, **fields).output_text == found[-1].response.output_text


def test_instructions_and_items_are_the_conversation(client: OpenAI, ask: Asking, fields: dict[str, Any]) -> None:
    items = [
        {"role": "user", "content": "France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": [{"type": "input_text", "text": "And Italy?"}]},
    ]
    asked = fields | {"instructions": "You answer with the capital of a country.", "input": items}
    messages = [
        {"role": "system", "content": "You answer with the capital of a country."},
        *items[:2],
        {"role": "user", "content": "And Italy?"},
    ]
    assert whole(client, **asked).output_text == ask.whole(messages=messages).choices[0].message.content


def test_a_schema_is_kept_to_and_parsed(client: OpenAI, fields: dict[str, Any]) -> None:
    asked = fields | {"input": "Describe Paris.", "max_output_tokens": 120}
    reply = whole(client, **asked, text=FORMAT)
    assert reply.status == "completed"
    jsonschema.validate(json.loads(reply.output_text), SCHEMA)
    assert isinstance(client.responses.parse(**asked, text_format=City).output_parsed, City)


def test_a_tool_is_called_and_its_result_taken(client: OpenAI, fields: dict[str, Any]) -> None:
    named = {"type": "function", "name": "get_weather"}
    asked = fields | {"input": ASKED, "tools": [TOOL], "max_output_tokens": 100}
    reply = whole(client, **asked, tool_choice=named)
    call = reply.output[0]
    assert call.type == "function_call"
    assert call.name == "get_weather"
    arguments_of(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    turns = [{"role": "user", "content": ASKED}, call, result]
    assert whole(client, **asked | {"input": turns, "max_output_tokens": 8}, tool_choice="none").output_text


def test_a_streamed_call_is_done_with_its_arguments(client: OpenAI, fields: dict[str, Any]) -> None:
    asked = fields | {"input": ASKED, "tools": [TOOL], "tool_choice": "required", "max_output_tokens": 100}
    found = events(client, **asked)
    pieces = "".join(event.delta for event in found if event.type == "response.function_call_arguments.delta")
    done = [event.arguments for event in found if event.type == "response.function_call_arguments.done"]
    assert done == [pieces]
    arguments_of(pieces)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"temperature": 9}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
    ids=str,
)
def test_what_is_not_offered_is_named(client: OpenAI, fields: dict[str, Any], change: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**fields | change)
    check_error(caught.value.response.json())
    assert caught.value.param == param


def test_an_unknown_model_is_not_found(client: OpenAI, fields: dict[str, Any]) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(**fields | {"model": "gpt-unknown"})
    assert caught.value.code == "model_not_found"
