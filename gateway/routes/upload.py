"""Receives a multipart upload of one file, as the openai SDK sends it: within limits of size, and of silence."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from gateway.errors import InvalidRequest, TooLarge, UnsupportedMediaType
from gateway.routes.body import ClientLeft, ReceiptTooSlow

FORM_BYTES = 1 << 16
"""What the fields beside the file may take."""
NAME_CHARACTERS = 255


@dataclass(frozen=True)
class Upload:
    """A file that has arrived, in the folder for temporary files; whoever receives it closes it."""

    file: UploadFile
    filename: str
    purpose: str


async def receive_upload(request: Request, limit_bytes: int, silence_seconds: float) -> Upload:
    """The parts `purpose` and `file`. Raises an `AlignwayError` that says what is wrong with the upload."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise UnsupportedMediaType("Send the file as multipart/form-data, with the parts `purpose` and `file`.")
    parser = MultiPartParser(
        request.headers, _within(request, limit_bytes, silence_seconds), max_files=1, max_fields=8, max_part_size=4096
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequest(
            f"The upload is no sound multipart/form-data: {error.message}", code="invalid_upload"
        ) from error
    except ClientDisconnect as error:
        raise ClientLeft from error
    file, purpose = form.get("file"), form.get("purpose")
    if not isinstance(file, UploadFile):
        raise InvalidRequest("The part `file` is missing, or has no file name.", param="file")
    if unknown := sorted(form.keys() - {"file", "purpose"}) or (purpose != "fine-tune"):
        await file.close()
        if isinstance(unknown, list):
            raise InvalidRequest(f"The part {unknown[0]!r} is not taken.", param=unknown[0], code="unknown_parameter")
        raise InvalidRequest("`purpose` must be `fine-tune`.", param="purpose", code="unsupported_purpose")
    if (file.size or 0) > limit_bytes:
        await file.close()
        raise _too_large(limit_bytes)
    return Upload(file, _plain(file.filename or "file"), "fine-tune")


async def _within(request: Request, limit_bytes: int, silence_seconds: float) -> AsyncGenerator[bytes, None]:
    received, blocks = 0, request.stream()
    while True:
        try:
            async with asyncio.timeout(silence_seconds):
                block = await anext(blocks, None)
        except TimeoutError as error:
            raise ReceiptTooSlow(
                f"Nothing of the file arrived for {silence_seconds:g} s (`server.receipt_seconds`). Send it again."
            ) from error
        if block is None:
            return
        received += len(block)
        if received > limit_bytes + FORM_BYTES:
            raise _too_large(limit_bytes)
        yield block


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"The file is larger than {limit_bytes} bytes. Send it in parts, or raise `files.limit_bytes`.", param="file"
    )


def _plain(filename: str) -> str:
    """The name without folders and control characters; it is only shown, never used as a path."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:NAME_CHARACTERS] or "file"
