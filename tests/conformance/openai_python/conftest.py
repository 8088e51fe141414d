"""The openai SDK of the environment that runs this: the newest, or the major before it (see test_other_majors.py)."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.conformance.conftest import Served
from tests.conformance.strict import check

QUESTION = "Name three rivers in Europe."


class Asking:
    """Asks as SDK users do; every reply and chunk is held to the SDK's types before a test sees it."""

    def __init__(self, client: OpenAI, model: str) -> None:
        self.client, self.model = client, model

    def fields(self, **changes: Any) -> dict[str, Any]:
        """A short greedy request, with `changes`; a message may be given as its text."""
        messages = changes.pop("messages", QUESTION)
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 6} | changes

    def whole(self, **changes: Any) -> ChatCompletion:
        """The whole reply."""
        fields = {name: value for name, value in self.fields(**changes).items() if value is not ...}
        response = self.client.chat.completions.with_raw_response.create(**fields)
        check(ChatCompletion, response.http_response.json())
        assert response.http_response.headers["content-type"] == "application/json"
        return response.parse()

    def chunks(self, **changes: Any) -> list[ChatCompletionChunk]:
        """All chunks of a streamed reply."""
        with self.client.chat.completions.create(**self.fields(**changes), stream=True) as stream:
            chunks = list(stream)
        for chunk in chunks:
            check(ChatCompletionChunk, chunk.to_dict(exclude_unset=True))
        return chunks


@pytest.fixture(scope="session")
def client(served: Served) -> Iterator[OpenAI]:
    """A client with a good key, that asks once."""
    with OpenAI(base_url=served.url, api_key=served.key, max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def ask(client: OpenAI, served: Served) -> Asking:
    """How tests here ask."""
    return Asking(client, served.model)


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    """What the chunks say together."""
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def ends_of(chunks: list[ChatCompletionChunk]) -> dict[int, list[str]]:
    """The finish reasons given to each choice."""
    ends: dict[int, list[str]] = {}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        ends.setdefault(choice.index, []).extend([choice.finish_reason] if choice.finish_reason else [])
    return ends
