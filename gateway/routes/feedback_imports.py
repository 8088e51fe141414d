"""`POST /v1/feedback/imports`: turns an uploaded file of any size into pairs. Sending it again doubles nothing."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.feedback.bodies import Label
from gateway.feedback.file_imports import FileToImport, Operation, import_file
from gateway.feedback.identity import WRITE_TEXT, own_rater, require_scope
from gateway.feedback.import_alias import alias_of_import
from gateway.feedback.import_store import ImportStore, ImportTerms, StoredImports
from gateway.feedback.imports import InvalidPairs
from gateway.formats.pairs import FormatName
from gateway.routes.body import read_model
from gateway.routes.files import own_file
from gateway.routes.idempotency import IdempotentRoute
from gateway.services import Services
from gateway.wire.error_body import error_body

router = APIRouter(route_class=IdempotentRoute)
Voter = Annotated[Caller, Depends(require("feedback"))]


class FileImportBody(BaseModel):
    """Which file to import, and what is said of its pairs."""

    model_config = ConfigDict(extra="forbid")

    file_id: Label
    source: Label
    licence: Label
    alias: Label | None = None
    format: FormatName | Literal["auto"] = "auto"
    on_error: Literal["stop", "skip"] = "stop"


@router.post("/v1/feedback/imports")
async def import_uploaded_file(request: Request, caller: Voter) -> JSONResponse:
    """Import the pairs of a file; the answer comes when all are stored, and counts them."""
    services: Services = request.app.state.services
    body = await read_model(request, FileImportBody)
    require_scope(caller, WRITE_TEXT, "text that was not written by the model")
    row = await own_file(request, caller, body.file_id)
    async with services.database.read() as session:
        alias = await alias_of_import(session, caller.project_id, body.alias)
    rater = own_rater(caller, services.secrets)
    terms = ImportTerms(caller.project_id, caller.key_id, alias, body.source, body.licence, rater, {})
    file = FileToImport(
        services.settings.store_path / row.location,
        None if body.format == "auto" else body.format,
        body.on_error == "skip",
    )

    async def commit(operation: Operation) -> StoredImports:
        return await services.votes.submit(operation)

    store = ImportStore(services.settings.feedback)
    try:
        result = await import_file(file, terms, store, commit, _no_progress)
    except InvalidPairs as error:
        answer = error_body(error)
        answer["error"]["details"] = error.details
        return JSONResponse(answer, status_code=error.status)
    head: dict[str, Any] = {"object": "feedback.import", "file_id": row.id, "alias": alias}
    return JSONResponse(head | result.as_json)


def _no_progress(stage: str, done: int, total: int | None) -> None:
    """Nobody watches an import over HTTP."""
