"""Finds the completions that a vote is about, waiting a moment for one that is still being written."""

import asyncio
import time
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import NotFound
from gateway.feedback.bodies import AnyBody, BodyOnChoices, ChoiceRef
from gateway.feedback.completions import LoggedChoice, logged_choice, prompt_of
from gateway.storage.database import Database
from gateway.storage.feedback import find_completions

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.3


class CompletionNotStored(NotFound):
    """Unknown, not stored, or of another project: which of these is not told."""

    code, param = "completion_not_stored", "completion_id"

    def __init__(self, completion_id: str) -> None:
        super().__init__(
            f"No completion {completion_id!r} is stored for this project. Vote on the `id` of an answer that was "
            "fully received; answers that were not recorded, or were deleted, cannot be voted on."
        )


async def wait_for_targets(database: Database, project_id: str, body: AnyBody, wait_seconds: float) -> None:
    """Return once all completions that `body` is about are stored, or raise `CompletionNotStored` after a while."""
    if not isinstance(body, BodyOnChoices):
        return
    wanted = {target.completion_id for target in body.targets}
    deadline, pause = time.monotonic() + wait_seconds, FIRST_PAUSE_SECONDS
    while True:
        async with database.read() as session:
            missing = wanted - (await find_completions(session, project_id, wanted)).keys()
        if not missing:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise CompletionNotStored(min(missing))
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def load_targets(session: AsyncSession, project_id: str, targets: Sequence[ChoiceRef]) -> list[LoggedChoice]:
    """The choices a vote is about, in its order. Raises `CompletionNotStored` or `InvalidRequest`."""
    completions = await find_completions(session, project_id, (target.completion_id for target in targets))
    for target in targets:
        if target.completion_id not in completions:
            raise CompletionNotStored(target.completion_id)
    prompts = {id_: prompt_of(completion) for id_, completion in completions.items()}
    return [logged_choice(completions[t.completion_id], prompts[t.completion_id], t) for t in targets]
