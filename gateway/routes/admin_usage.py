"""`GET /admin/v1/usage`: what keys and end users used in a month, as JSON or CSV."""

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.access.usage import UsageQuestion, answer_usage, as_csv
from gateway.storage.usage import GroupBy

router = APIRouter(prefix="/admin/v1")


@router.get("/usage")
async def show_usage(
    request: Request,
    caller: Annotated[Caller, Depends(require("admin"))],
    month: str | None = None,
    key: str | None = None,
    user: str | None = None,
    group_by: GroupBy = "key",
    format: Literal["json", "csv"] | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """Requests and tokens of a UTC month, this one by default, by key or by key and end user; most tokens first.

    `user` is a plain name as clients send it; answers name users by a keyed hash. CSV (by `format` or `Accept`) has
    every row, JSON the first `limit`.
    """
    services = request.app.state.services
    wants_csv = format == "csv" or (format is None and "text/csv" in request.headers.get("accept", ""))
    question = UsageQuestion(month, key, user, group_by)
    async with services.database.read() as session:
        rows = await answer_usage(session, services.secrets, question, None if wants_csv else limit + 1)
    if wants_csv:
        name = f'attachment; filename="usage-{question.checked_month()}.csv"'
        return Response(as_csv(rows), media_type="text/csv", headers={"content-disposition": name})
    data = [{"object": "usage"} | row for row in rows[:limit]]
    listed = {"object": "list", "data": data, "has_more": len(rows) > limit}
    return Response(msgspec.json.encode(listed), media_type="application/json")
