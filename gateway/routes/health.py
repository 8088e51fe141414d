"""For machines: is the process alive, can it serve, what has it counted."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from gateway.telemetry.exposition import CONTENT_TYPE

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """200 when every alias has a replica that serves its release, else 503 with what is missing."""
    services = request.app.state.services
    table = services.pool.table
    missing = [
        alias.name
        for alias in table.aliases.values()
        if not any(replica.model_for(alias.serving_release_id) for replica in table.replicas)
    ]
    draining = request.app.state.draining
    ready = bool(table.aliases) and not missing and not draining
    body: dict[str, Any] = {"status": "ready" if ready else "not_ready", "aliases_without_replica": missing}
    if draining:
        body["status"] = "draining"
    return JSONResponse(body, status_code=200 if ready else 503)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus' text format; whichever worker answers shows the sum over all workers of this host."""
    return Response(await request.app.state.services.metrics.exposition(), media_type=CONTENT_TYPE)
