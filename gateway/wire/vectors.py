"""`POST /v1/embeddings` and `POST /v1/rerank`: what goes on to an engine, and what of its answer comes back. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import UpstreamError
from gateway.wire.chat_decisions import FORWARDED, HANDLED, Decision
from gateway.wire.decided import without_nulls
from gateway.wire.json_body import invalid_field
from gateway.wire.text import refuse_token_ids

MAX_TEXTS = 2048
MODEL = Decision(HANDLED, "an alias whose `[[models]]` entry has this task")
USER = Decision(HANDLED, "whom the client asks for; counted as a keyed hash")
EMBEDDINGS_FIELDS: Mapping[str, Decision] = {
    "dimensions": Decision(FORWARDED, "1 to 65536"),
    "encoding_format": Decision(FORWARDED, "`float` or `base64`"),
    "input": Decision(FORWARDED, f"a text or a list of up to {MAX_TEXTS} texts; token ids are refused"),
    "model": MODEL,
    "user": USER,
}
RERANK_FIELDS: Mapping[str, Decision] = {
    "documents": Decision(FORWARDED, f"up to {MAX_TEXTS} texts, or objects with a `text`"),
    "model": MODEL,
    "query": Decision(FORWARDED, "a text"),
    "return_documents": Decision(HANDLED, "`false`: places and scores alone"),
    "top_n": Decision(FORWARDED, "1 or more"),
    "user": USER,
}

Text = Annotated[str, Field(min_length=1)]
Reply = dict[str, Any]
Asked = TypeVar("Asked", bound="PassedRequest")


class PassedRequest(BaseModel, ABC):
    """A body whose fields go on to an engine, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(min_length=1, max_length=256)
    user: str | None = Field(default=None, max_length=256)
    """Counted here; never sent on."""

    def engine_body(self, engine_model: str) -> dict[str, Any]:
        """What the engine is sent."""
        return self.model_dump(exclude_none=True, exclude={"user"}) | {"model": engine_model}

    @abstractmethod
    def clean(self, reply: Reply, alias: str, answer_id: str) -> Reply:
        """The client's reply. Raises `UpstreamError` for nonsense."""


class EmbeddingsRequest(PassedRequest):
    """The body of `POST /v1/embeddings`."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1, le=65536)

    def clean(self, reply: Reply, alias: str, answer_id: str) -> Reply:
        """A vector per text, in order."""
        expected = 1 if isinstance(self.input, str) else len(self.input)
        found = _list(reply, "data", expected)
        data = [
            {"object": "embedding", "index": number, "embedding": _vector(item)}
            for number, item in enumerate(sorted(found, key=lambda item: int(item.get("index", 0))))
        ]
        return {"object": "list", "data": data, "model": alias, "usage": passed_usage(reply)}


class Document(BaseModel):
    """A text to be ranked, in the longer form."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    text: Text


class RerankRequest(PassedRequest):
    """The body of `POST /v1/rerank`, as Cohere, Jina and vLLM have it."""

    query: Text
    documents: list[Text | Document] = Field(min_length=1, max_length=MAX_TEXTS)
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool = True

    def engine_body(self, engine_model: str) -> dict[str, Any]:
        """What the engine is sent; the documents themselves need not come back."""
        body = super().engine_body(engine_model) | {"documents": self._texts()}
        del body["return_documents"]
        return body

    def clean(self, reply: Reply, alias: str, answer_id: str) -> Reply:
        """The documents' places in `documents`, the most relevant one first."""
        texts = self._texts()
        results: list[dict[str, Any]] = []
        for item in _list(reply, "results", None):
            index = int(item.get("index", -1))
            if not 0 <= index < len(texts):
                raise UpstreamError("The engine ranked a document that it was not sent; see the engine's log.")
            document = {"document": {"text": texts[index]}} if self.return_documents else {}
            results.append({"index": index, **document, "relevance_score": float(item["relevance_score"])})
        results.sort(key=lambda result: -float(result["relevance_score"]))
        return {
            "id": answer_id,
            "model": alias,
            "results": results[: self.top_n],
            "usage": passed_usage(reply),
        }

    def _texts(self) -> list[str]:
        return [document if isinstance(document, str) else document.text for document in self.documents]


def parse_passed(fields: dict[str, Any], kind: type[Asked]) -> Asked:
    """Validate a decoded body. Raises `InvalidRequest` that names the parameter."""
    refuse_token_ids("input", fields.get("input"))
    try:
        return kind.model_validate(without_nulls(fields))
    except ValidationError as error:
        raise invalid_field(error) from error


def passed_usage(reply: Reply) -> dict[str, int]:
    """What the request cost; nothing is written, so all tokens are the prompt's."""
    usage = reply.get("usage") or {}
    total = int(usage.get("total_tokens") or usage.get("prompt_tokens") or 0)
    return {"prompt_tokens": total, "total_tokens": total}


def _vector(item: dict[str, Any]) -> str | list[float]:
    vector = item.get("embedding")
    if isinstance(vector, str):
        return vector
    if not isinstance(vector, list) or not all(type(number) in (float, int) for number in vector):
        raise UpstreamError("The engine answered without vectors; see the engine's log.")
    return vector


def _list(reply: Reply, name: str, expected: int | None) -> list[dict[str, Any]]:
    found = reply.get(name)
    if not isinstance(found, list) or (expected is not None and len(found) != expected):
        raise UpstreamError(f"The engine answered without the right `{name}`; see the engine's log.")
    return found
