"""Embeddings and reranking: what goes on, what comes back, what is refused by name."""

from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse, embedding_create_params

from gateway.errors import InvalidRequest, UpstreamError
from gateway.wire.vectors import EMBEDDINGS_FIELDS, RERANK_FIELDS, EmbeddingsRequest, RerankRequest, parse_passed


def embed(**fields: Any) -> EmbeddingsRequest:
    return parse_passed({"model": "embedder", "input": ["a", "b"]} | fields, EmbeddingsRequest)


def rerank(**fields: Any) -> RerankRequest:
    return parse_passed({"model": "ranker", "query": "q", "documents": ["a", {"text": "b"}]} | fields, RerankRequest)


def vector(index: int, *numbers: float) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": list(numbers), "own": 1}


def test_every_field_of_the_sdk_is_taken_and_no_other_is() -> None:
    assert embedding_create_params.EmbeddingCreateParams.__annotations__.keys() == EMBEDDINGS_FIELDS.keys()
    assert EMBEDDINGS_FIELDS.keys() == EmbeddingsRequest.model_fields.keys()
    assert RERANK_FIELDS.keys() == RerankRequest.model_fields.keys()
    with pytest.raises(InvalidRequest) as caught:
        embed(truncate_prompt_tokens=3)
    assert (caught.value.param, caught.value.code) == ("truncate_prompt_tokens", "unknown_parameter")


def test_only_allowlisted_fields_go_on_and_never_the_end_user() -> None:
    request = embed(user="u", dimensions=8, encoding_format="base64")
    assert request.engine_body("e5") == {
        "model": "e5", "input": ["a", "b"], "dimensions": 8, "encoding_format": "base64"
    }  # fmt: skip
    assert rerank(top_n=1, return_documents=False, user="u").engine_body("bge") == {
        "model": "bge", "query": "q", "documents": ["a", "b"], "top_n": 1
    }  # fmt: skip


def test_embeddings_come_back_in_order_under_the_alias() -> None:
    reply = {"id": "embd-1", "created": 3, "model": "e5", "data": [vector(1, 0.5), vector(0, 0.25)],
             "usage": {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0}}  # fmt: skip
    shown = embed().clean(reply, "embedder", "pass_1")
    CreateEmbeddingResponse.model_validate(shown, strict=True)
    assert shown == {
        "object": "list",
        "model": "embedder",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.25]},
            {"object": "embedding", "index": 1, "embedding": [0.5]},
        ],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


def test_base64_passes_as_it_is() -> None:
    reply = {"data": [{"index": 0, "embedding": "AACAPg=="}], "usage": {"total_tokens": 1}}
    assert embed(input="a", encoding_format="base64").clean(reply, "e", "pass_1")["data"][0]["embedding"] == "AACAPg=="


@pytest.mark.parametrize(
    "data", [None, [vector(0, 1.0)], [{"index": 0, "embedding": ["x"]}, vector(1)], [{"index": 0}, vector(1)]]
)
def test_an_engine_that_sends_no_vectors_has_failed(data: Any) -> None:
    with pytest.raises(UpstreamError):
        embed().clean({"data": data}, "embedder", "pass_1")


@pytest.mark.parametrize("given", [[1, 2], [[1], [2]], "", [], ["a", ""], None])
def test_an_input_that_is_no_text_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embed(input=given)
    assert (caught.value.param or "").startswith("input")


def test_a_field_that_is_null_counts_as_left_out() -> None:
    assert embed(user=None, dimensions=None, foo=None) == embed()
    assert rerank(return_documents=None, top_n=None, foo=None) == rerank()
    with pytest.raises(InvalidRequest) as caught:
        embed(input=None)
    assert caught.value.code == "missing_required_parameter"


def test_reranked_documents_come_back_best_first_with_the_client_s_own_texts() -> None:
    results = [
        {"index": 0, "document": {"text": "what the engine says"}, "relevance_score": 0.1},
        {"index": 1, "relevance_score": 0.9},
    ]
    reply = {"id": "x", "model": "bge", "results": results, "usage": {"total_tokens": 7}}
    shown = rerank().clean(reply, "ranker", "pass_1")
    assert shown == {
        "id": "pass_1",
        "model": "ranker",
        "results": [
            {"index": 1, "document": {"text": "b"}, "relevance_score": 0.9},
            {"index": 0, "document": {"text": "a"}, "relevance_score": 0.1},
        ],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    few = rerank(top_n=1, return_documents=False).clean(reply, "ranker", "pass_1")
    assert few["results"] == [{"index": 1, "relevance_score": 0.9}]


def test_a_document_that_was_not_sent_is_the_engine_s_failure() -> None:
    with pytest.raises(UpstreamError):
        rerank().clean({"results": [{"index": 2, "relevance_score": 1.0}]}, "ranker", "pass_1")
