"""Uploaded files as rows and on disk, and runs on them."""

import json
from pathlib import Path
from typing import Any

from gateway.contracts import ids
from gateway.contracts.training import TrainingOptions
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.file_tables import UploadedFile
from gateway.storage.runs import create_run

AT = 1_795_000_000.0
"""When files were uploaded; runs follow a second later."""


async def add_file(database: Database, store: Path, rows: list[dict[str, Any]], answers: int = 0) -> str:
    """A file of pairs and `answers` single answers, as an upload leaves it; its id."""
    file_id = ids.mint(ids.FILE)
    path = store / "files" / file_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = {"pairs": len(rows) - answers, "answers": answers}
    async with database.write() as session:
        session.add(
            UploadedFile(
                id=file_id, project_id="proj_1", key_id="k", filename="f", purpose="fine-tune", bytes=1, sha256="",
                status="processed", counts=counts, location=f"files/{file_id}", created_at=AT,
            )
        )  # fmt: skip
    return file_id


async def queue_on(database: Database, training: str, validation: str | None = None, **options: Any) -> Run:
    """A run of `assistant` on files or frozen data sets."""
    async with database.write() as session:
        return await create_run(
            session,
            alias="assistant",
            trigger="manual",
            actor="key_1",
            options=TrainingOptions.model_validate(options),
            now=AT + 1,
            training_file=training,
            validation_file=validation,
        )
