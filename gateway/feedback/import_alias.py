"""Which alias imported pairs may train."""

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import InvalidRequest
from gateway.storage.feedback import aliases_of_project


async def alias_of_import(session: AsyncSession, project_id: str, wanted: str | None) -> str:
    """The alias that was asked for, or the project's only one. Raises `InvalidRequest`."""
    names = await aliases_of_project(session, project_id)
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is not None and wanted in names:
        return wanted
    choices = f"This project's aliases are: {', '.join(names)}." if names else "This project has no alias."
    problem = "Say which `alias` the pairs may train." if wanted is None else f"There is no alias {wanted!r} here."
    raise InvalidRequest(f"{problem} {choices}", param="alias", code="unknown_alias")
