"""Uploaded files as rows: add, find, list, delete. Everything is bounded by the caller's project."""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.file_tables import UploadedFile


async def find_file(session: AsyncSession, project_id: str, file_id: str) -> UploadedFile | None:
    """A file of the project."""
    owned = (UploadedFile.id == file_id, UploadedFile.project_id == project_id)
    return await session.scalar(select(UploadedFile).where(*owned))


async def list_files(
    session: AsyncSession,
    project_id: str,
    *,
    limit: int,
    after: UploadedFile | None,
    order: Literal["asc", "desc"],
    purpose: str | None,
) -> Sequence[UploadedFile]:
    """At most `limit` files of the project by age, from the one behind `after` on."""
    statement = select(UploadedFile).where(UploadedFile.project_id == project_id)
    if purpose is not None:
        statement = statement.where(UploadedFile.purpose == purpose)
    if after is not None:
        place, cursor = tuple_(UploadedFile.created_at, UploadedFile.id), tuple_(after.created_at, after.id)
        statement = statement.where(place > cursor if order == "asc" else place < cursor)
    columns = (UploadedFile.created_at, UploadedFile.id)
    statement = statement.order_by(*(column.asc() if order == "asc" else column.desc() for column in columns))
    return (await session.scalars(statement.limit(limit))).all()
