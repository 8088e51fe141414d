"""`GET /admin/v1/users/export`: everything that is stored about one user."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.privacy.user_export import export_user
from gateway.services import Services
from gateway.storage.audit import write_audit

router = APIRouter(prefix="/admin/v1/users")


@router.get("/export")
async def export_one_user(
    request: Request,
    response: Response,
    user: str,
    caller: Annotated[Caller, Depends(require("admin"))],
    project: str | None = None,
) -> dict[str, Any]:
    """Completions, votes, pairs and usage of the user whom clients name so, and where those were used."""
    services: Services = request.app.state.services
    document = await export_user(services.database, services.settings.store_path, services.secrets, user, project)
    async with services.database.write() as session:
        subject = document["end_user_hash"]
        await write_audit(session, actor=caller.key_id, action="user.exported", subject=subject)
    response.headers["cache-control"] = "no-store"
    return document
