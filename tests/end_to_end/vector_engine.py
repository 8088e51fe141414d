"""An OpenAI-like server of embeddings and rankings, on loopback: as strict about fields as it is free with its own."""

import hashlib
import struct
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.loopback import listening

DIMENSIONS = 4


def vector_of(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Equal for equal texts; each number can be told exactly in 32 bits."""
    return [byte / 256 for byte in hashlib.sha256(text.encode()).digest()[:dimensions]]


def score_of(query: str, document: str) -> float:
    """The share of the query's words that the document has."""
    words = query.split()
    return sum(word in document.split() for word in words) / len(words)


async def answer_embeddings(request: web.Request) -> web.Response:
    """POST /v1/embeddings."""
    body = await request.json()
    _refuse_others(body, {"model", "input", "encoding_format", "dimensions"})
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    vectors: list[Any] = [vector_of(text, body.get("dimensions", DIMENSIONS)) for text in texts]
    if body.get("encoding_format") == "base64":
        vectors = [b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": v, "own": 1} for index, v in enumerate(vectors)]
    tokens = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    return web.json_response(
        {"id": "embd-x", "object": "list", "created": 1, "model": body["model"], "data": data, "usage": usage}
    )


async def answer_rerank(request: web.Request) -> web.Response:
    """POST /v1/rerank."""
    body = await request.json()
    _refuse_others(body, {"model", "query", "documents", "top_n"})
    scored = [(score_of(body["query"], text), index, text) for index, text in enumerate(body["documents"])]
    results = [{"index": i, "document": {"text": text}, "relevance_score": s, "own": 1} for s, i, text in scored]
    return web.json_response({"id": "x", "model": body["model"], "results": results, "usage": {"total_tokens": 9}})


async def list_models(_: web.Request) -> web.Response:
    """GET /v1/models."""
    return web.json_response({"object": "list", "data": [{"id": "vectors-1", "object": "model"}]})


def _refuse_others(body: dict[str, Any], known: set[str]) -> None:
    if body.keys() - known or body["model"] != "vectors-1":
        raise web.HTTPBadRequest(text=f"unknown: {body.keys() - known}, model {body['model']}")


@asynccontextmanager
async def vector_engine() -> AsyncIterator[str]:
    """A server that listens; its address."""
    app = web.Application()
    app.router.add_post("/v1/embeddings", answer_embeddings)
    app.router.add_post("/v1/rerank", answer_rerank)
    app.router.add_get("/v1/models", list_models)
    async with listening(app) as url:
        yield url
