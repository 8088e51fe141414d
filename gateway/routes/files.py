"""`/v1/files`: files of pairs or answers, to train on or to import. Another project's file is as unknown as any."""

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.contracts import ids
from gateway.errors import NotFound, Unavailable
from gateway.feedback.files import KeptFile, keep_file
from gateway.routes.upload import Upload, receive_upload
from gateway.services import Services
from gateway.storage.file_tables import UploadedFile
from gateway.storage.files import find_file, list_files

router = APIRouter(prefix="/v1/files")
Trainer = Annotated[Caller, Depends(require("train"))]
Cursor = Annotated[str | None, Query(max_length=256, pattern=r"^[^\x00]*$")]


class FileUnknown(NotFound):
    """Unknown, deleted, or of another project: which of these is not told."""

    code, param = "file_not_found", "file_id"

    def __init__(self, file_id: str) -> None:
        super().__init__(f"There is no file {file_id!r} in this project. GET /v1/files lists what there is.")


class StoreUnavailable(Unavailable):
    """The store cannot be written or read; nothing was kept."""

    code = "store_unavailable"


@router.post("")
async def upload_file(request: Request, caller: Trainer) -> dict[str, Any]:
    """Keep a file and say what it holds: `status` is `processed`, or `error` with `status_details`."""
    services: Services = request.app.state.services
    settings = services.settings
    upload = await receive_upload(request, settings.files.limit_bytes, settings.server.receipt_seconds)
    file_id = ids.mint(ids.FILE)
    try:
        kept = await asyncio.to_thread(keep_file, settings.store_path, file_id, upload.file.file)
    except OSError as error:
        raise StoreUnavailable(f"The file cannot be kept ({error.strerror or error}). Try again later.") from error
    finally:
        await upload.file.close()
    row = _row(file_id, caller, upload, kept)
    async with services.database.write() as session:
        session.add(row)
    return file_view(row)


@router.get("")
async def show_files(
    request: Request,
    caller: Trainer,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: Cursor = None,
    order: Literal["asc", "desc"] = "desc",
    purpose: Cursor = None,
) -> dict[str, Any]:
    """The project's files, newest first unless asked otherwise."""
    async with request.app.state.services.database.read() as session:
        behind = None
        if after is not None and (behind := await find_file(session, caller.project_id, after)) is None:
            raise FileUnknown(after)
        found = await list_files(
            session, caller.project_id, limit=limit + 1, after=behind, order=order, purpose=purpose
        )
    data = [file_view(row) for row in found[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > limit,
    }


@router.get("/{file_id}")
async def retrieve_file(request: Request, caller: Trainer, file_id: str) -> dict[str, Any]:
    """One file."""
    return file_view(await own_file(request, caller, file_id))


@router.get("/{file_id}/content")
async def retrieve_content(request: Request, caller: Trainer, file_id: str) -> FileResponse:
    """The file as it was uploaded."""
    row = await own_file(request, caller, file_id)
    path = request.app.state.services.settings.store_path / row.location
    if not await asyncio.to_thread(path.is_file):
        raise StoreUnavailable(f"The content of {file_id} is not in the store; restore it from a backup.")
    return FileResponse(path, media_type="application/octet-stream", filename=row.filename)


@router.delete("/{file_id}")
async def delete_file(request: Request, caller: Trainer, file_id: str) -> dict[str, Any]:
    """Forget a file. Pairs that were imported from it stay."""
    row = await own_file(request, caller, file_id)
    services: Services = request.app.state.services
    async with services.database.write() as session:
        await session.delete(await session.merge(row))
    await asyncio.to_thread((services.settings.store_path / row.location).unlink, missing_ok=True)
    return {"id": file_id, "object": "file", "deleted": True}


async def own_file(request: Request, caller: Caller, file_id: str) -> UploadedFile:
    """A file of the caller's project. Raises `FileUnknown`."""
    if "\0" in file_id:  # PostgreSQL takes no such text
        raise FileUnknown(file_id)
    async with request.app.state.services.database.read() as session:
        row = await find_file(session, caller.project_id, file_id)
    if row is None:
        raise FileUnknown(file_id)
    return row


def file_view(row: UploadedFile) -> dict[str, Any]:
    """A file as OpenAI's clients know it, and what it holds."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": int(row.created_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        "status_details": row.status_details,
        "sha256": row.sha256,
        "counts": row.counts,
    }


def _row(file_id: str, caller: Caller, upload: Upload, kept: KeptFile) -> UploadedFile:
    return UploadedFile(
        id=file_id,
        project_id=caller.project_id,
        key_id=caller.key_id,
        filename=upload.filename,
        purpose=upload.purpose,
        bytes=kept.bytes,
        sha256=kept.sha256,
        status=kept.status,
        status_details=kept.status_details,
        counts=kept.counts,
        location=str(kept.location),
        created_at=time.time(),
    )
