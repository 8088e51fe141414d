"""Embeddings through the openai SDK, from an engine that the gateway only passes them on to."""

import openai
import pytest
from openai import OpenAI
from openai.types import CreateEmbeddingResponse

from tests.conformance.embedder import EMBEDDER, vector_of
from tests.conformance.openai_python.conftest import Asking
from tests.conformance.strict import check, check_error

TEXTS = ["a river in the south", "bread"]


def test_vectors_come_back_in_order_under_the_alias(client: OpenAI) -> None:
    response = client.embeddings.with_raw_response.create(model=EMBEDDER, input=TEXTS, encoding_format="float")
    check(CreateEmbeddingResponse, response.http_response.json())
    reply = response.parse()
    assert reply.model == EMBEDDER
    assert [item.embedding for item in reply.data] == [[10.0, 3.5, 2.0], [2.5, 1.0, 0.0]]
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == 6


def test_the_sdks_own_encoding_gives_the_same_numbers(client: OpenAI) -> None:
    # Unless told otherwise the SDK asks for base64 and decodes it.
    reply = client.embeddings.create(model=EMBEDDER, input="bread", dimensions=2)
    assert reply.data[0].embedding == vector_of("bread", 2)


def test_a_model_does_only_what_it_is_for(client: OpenAI, ask: Asking) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(model=ask.model, input="bread")
    assert caught.value.status_code in (400, 404)
    check_error(caught.value.response.json())
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**ask.fields(model=EMBEDDER))
    assert caught.value.status_code in (400, 404)
    check_error(caught.value.response.json())
