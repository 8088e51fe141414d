"""Cancel, pause or resume a run, and write down who did: one way for the routes and the command line."""

from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import InvalidRequest
from gateway.storage.audit import write_audit
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import request_cancel, request_pause, resume_run

Change = Literal["cancelled", "paused", "resumed"]
ENDED = ("succeeded", "failed", "cancelled")


async def change_run(session: AsyncSession, run: Run, to: Change, actor: str, now: float) -> None:
    """Ask for the change; the row is locked by the caller. What is so already is not done again.

    Raises `InvalidRequest` where a run that has ended would be paused or resumed.
    """
    before = _standing(run)
    if to != "cancelled" and run.state in ENDED:
        raise InvalidRequest(f"The job {run.id} has {run.state} already; create another one.", code="job_ended")
    if to == "cancelled":
        await request_cancel(session, run, now)
    elif to == "paused":
        request_pause(run)
    else:
        resume_run(run)
    after = _standing(run)
    if after != before:
        await write_audit(session, actor=actor, action=f"run.{to}", subject=run.id, before=before, after=after)


def _standing(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in ("state", "cancel_requested", "pause_requested")}
