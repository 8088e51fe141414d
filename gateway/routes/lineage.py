"""Lineage both ways: which votes trained an answer, and what a vote trained."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.datasets.lineage import Lineages, Page
from gateway.feedback.reading import FeedbackNotFound
from gateway.services import Services
from gateway.storage.feedback import find_feedback

router = APIRouter()
Operator = Annotated[Caller, Depends(require("admin"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[str | None, Query(pattern=r"^fb_[0-9a-z]{1,64}$")]


@router.get("/admin/v1/lineage/completions/{completion_id}")
async def completion_lineage(
    request: Request, completion_id: str, caller: Operator, limit: Limit = 100, after: After = None
) -> dict[str, Any]:
    """The release that wrote an answer, the data set that it was trained on, and a page of the votes in that."""
    return await _lineages(request).of_completion(_storable(completion_id), Page(limit, after))


@router.get("/admin/v1/lineage/releases/{release}")
async def release_lineage(
    request: Request, release: str, caller: Operator, limit: Limit = 100, after: After = None
) -> dict[str, Any]:
    """The data set that a release (by id or name) was trained on, and a page of the votes in that."""
    return await _lineages(request).of_release(_storable(release), Page(limit, after))


@router.get("/admin/v1/lineage/datasets/{dataset_id}")
async def dataset_lineage(
    request: Request, dataset_id: str, caller: Operator, limit: Limit = 100, after: After = None
) -> dict[str, Any]:
    """The releases trained on a data set, and a page of the votes in it."""
    return await _lineages(request).of_dataset(_storable(dataset_id), Page(limit, after))


@router.get("/v1/feedback/{feedback_id}/lineage")
async def feedback_lineage(
    request: Request, feedback_id: str, caller: Annotated[Caller, Depends(require("feedback:read"))]
) -> dict[str, Any]:
    """The pairs of a vote of the caller's project, the data sets with it, and the releases trained on these."""
    services: Services = request.app.state.services
    async with services.database.read() as session:
        feedback = await find_feedback(session, caller.project_id, _storable(feedback_id))
    if feedback is None:
        raise FeedbackNotFound(feedback_id)
    told = await _lineages(request).of_vote(feedback)
    for release in (one for dataset in told["datasets"] for one in dataset["releases"]):
        del release["replicas"]  # the operator's alone
    return told


def _lineages(request: Request) -> Lineages:
    services: Services = request.app.state.services
    return Lineages(services.database, services.settings.store_path)


def _storable(id_: str) -> str:
    return id_.replace("\0", "")  # PostgreSQL takes no such text
