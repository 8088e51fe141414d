"""`POST /v1/embeddings` and `POST /v1/rerank`: passed on to an engine that a `[[models]]` entry with `task` names."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.contracts import ids
from gateway.relay.admission import BYTES_PER_TOKEN
from gateway.routes.body import read_fields
from gateway.routes.event_stream import answered
from gateway.routes.passage import Asked, Passage
from gateway.routing.policy import Target
from gateway.services import Services
from gateway.wire.vectors import EmbeddingsRequest, PassedRequest, RerankRequest, parse_passed

router = APIRouter()
Asker = Annotated[Caller, Depends(require("inference"))]
OPERATIONS = {"embed": "embeddings", "rerank": "rerank"}
EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"


@router.post(EMBEDDINGS)
async def create_embeddings(request: Request, caller: Asker) -> Response:
    """A vector for each text."""
    return await _passed_on(request, caller, EmbeddingsRequest, "embed", EMBEDDINGS)


@router.post(RERANK)
async def rerank(request: Request, caller: Asker) -> Response:
    """The documents by how well they answer the query."""
    return await _passed_on(request, caller, RerankRequest, "rerank", RERANK)


async def _passed_on(request: Request, caller: Caller, kind: type[PassedRequest], task: str, path: str) -> Response:
    services: Services = request.app.state.services
    fields, size = await read_fields(request)
    asked = parse_passed(fields, kind)
    about = Asked(
        id=ids.mint(ids.PASSED),
        model=asked.model,
        task=task,
        path=path,
        operation=OPERATIONS[task],
        body=asked.engine_body,
        first_text="",
        end_user=asked.user,
        prompt_tokens=size // BYTES_PER_TOKEN,
    )
    passage = await Passage.admitted(services, caller, about, request.headers.get("traceparent"))

    def read(reply: dict[str, Any], target: Target) -> dict[str, Any]:
        return asked.clean(reply, target.release.alias, about.id)

    reply = await answered(request, services, passage.whole(read))
    return Response(msgspec.json.encode(reply), media_type="application/json", headers=passage.headers)
