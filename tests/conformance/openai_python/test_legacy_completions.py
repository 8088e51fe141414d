"""The legacy completions route through the openai SDK."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import Completion

from tests.conformance.openai_python.conftest import Asking
from tests.conformance.strict import check, check_error


@pytest.fixture
def fields(ask: Asking) -> dict[str, Any]:
    """A short greedy continuation."""
    return {"model": ask.model, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 6}


def whole(client: OpenAI, **fields: Any) -> Completion:
    response = client.completions.with_raw_response.create(**fields)
    body = response.http_response.json()
    check(Completion, body)
    assert all(choice["finish_reason"] for choice in body["choices"])
    return response.parse()


def test_a_prompt_is_continued(client: OpenAI, fields: dict[str, Any]) -> None:
    reply = whole(client, **fields)
    assert "Paris" in reply.choices[0].text
    assert reply.id.startswith("cmpl-")
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 6


def test_a_stream_says_what_the_whole_reply_says(client: OpenAI, fields: dict[str, Any]) -> None:
    chunks = list(client.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        check(Completion, chunk.to_dict(exclude_unset=True))
    reply = whole(client, **fields)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == reply.choices[0].text
    assert chunks[-1].choices == []
    assert chunks[-1].usage == reply.usage
    plain = list(client.completions.create(**fields, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in plain)


def test_several_prompts_and_choices_are_numbered(client: OpenAI, fields: dict[str, Any]) -> None:
    asked = fields | {"prompt": ["One, two,", "A, B,"], "n": 2, "max_tokens": 3}
    reply = whole(client, **asked)
    assert sorted(choice.index for choice in reply.choices) == [0, 1, 2, 3]
    texts = {choice.index: choice.text for choice in reply.choices}
    assert texts[0] == texts[1] != texts[2] == texts[3]


def test_echo_stop_and_log_probabilities(client: OpenAI, fields: dict[str, Any]) -> None:
    text = whole(client, **fields).choices[0].text
    choice = whole(client, **fields, echo=True).choices[0]
    assert choice.text == fields["prompt"] + text
    stopped = whole(client, **fields, stop=[text[5:8]]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (text[: text.index(text[5:8])], "stop")
    found = whole(client, **fields, logprobs=2).choices[0].logprobs
    assert found is not None
    assert "".join(found.tokens or []) == text
    assert found.text_offset is not None
    assert found.text_offset[0] == 0
    assert all(len(top) >= 2 for top in found.top_logprobs or [])


@pytest.mark.parametrize(
    ("change", "param"),
    [({"temperature": 9}, "temperature"), ({"prompt": [1, 2]}, "prompt"), ({"suffix": "end"}, "suffix")],
    ids=str,
)
def test_a_bad_parameter_is_named(client: OpenAI, fields: dict[str, Any], change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**fields | change)
    check_error(caught.value.response.json())
    assert caught.value.param == param
