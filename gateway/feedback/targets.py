"""Finds the completions that a vote is about, waiting a moment for one that is still being written."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import NotFound
from gateway.feedback.bodies import AnyBody, BodyOnChoices, ChoiceRef
from gateway.feedback.completions import LoggedChoice, logged_choice, prompt_of
from gateway.feedback.identity import Caller
from gateway.settings import FeedbackSettings
from gateway.storage.database import Database
from gateway.storage.feedback import find_completions
from gateway.storage.feedback_tables import Completion
from gateway.storage.first_words import Answered

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.3
ANNOTATE = "annotate"
"""Whoever compares answers for others is not bound to those of the own key."""


class CompletionNotStored(NotFound):
    """Unknown, not stored, or of another project: which of these is not told."""

    code, param = "completion_not_stored", "completion_id"

    def __init__(self, named: str, *, by_id: bool = True) -> None:
        """`named`: the id, or the field that describes it."""
        what = f"{named!r} is" if by_id else f"that fits `{named}` is"
        super().__init__(
            f"No completion {what} stored for this project. Vote on the `id` of an answer that was "
            "fully received; answers that were not recorded, or were deleted, cannot be voted on."
        )


async def wait_for_targets(database: Database, caller: Caller, body: AnyBody, settings: FeedbackSettings) -> None:
    """Return once all completions that `body` is about are stored, or raise `CompletionNotStored` after a while."""
    if not isinstance(body, BodyOnChoices):
        return
    wanted = {target.completion_id for target in body.targets}
    deadline, pause = time.monotonic() + settings.completion_wait_seconds, FIRST_PAUSE_SECONDS
    while True:
        async with database.read() as session:
            missing = wanted - (await _visible(session, caller, wanted, settings)).keys()
        if not missing:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise CompletionNotStored(min(missing))
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def load_targets(
    session: AsyncSession, caller: Caller, targets: Sequence[ChoiceRef], settings: FeedbackSettings
) -> list[LoggedChoice]:
    """The choices a vote is about, in its order. Raises `CompletionNotStored` or `InvalidRequest`."""
    return _choices(await _visible(session, caller, {t.completion_id for t in targets}, settings), targets, settings)


async def load_logged(
    session: AsyncSession, project_id: str, targets: Sequence[ChoiceRef], settings: FeedbackSettings
) -> list[LoggedChoice]:
    """As `load_targets`, whoever may rate them: for what was voted on before."""
    found = await find_completions(session, project_id, {target.completion_id for target in targets})
    return _choices(found, targets, settings)


def _choices(
    completions: Mapping[str, Completion], targets: Sequence[ChoiceRef], settings: FeedbackSettings
) -> list[LoggedChoice]:
    for target in targets:
        if target.completion_id not in completions:
            raise CompletionNotStored(target.completion_id)
    prompts = {id_: prompt_of(completion, settings) for id_, completion in completions.items()}
    return [logged_choice(completions[t.completion_id], prompts[t.completion_id], t) for t in targets]


async def _visible(
    session: AsyncSession, caller: Caller, ids: Iterable[str], settings: FeedbackSettings
) -> dict[str, Completion]:
    """Those of the completions that are stored and that the caller may rate, by id."""
    found = await find_completions(session, caller.project_id, ids)
    return {id_: one for id_, one in found.items() if may_rate(caller, one, settings)}


def may_rate(caller: Caller, completion: Completion | Answered, settings: FeedbackSettings) -> bool:
    """Whether the caller may rate a completion."""
    if completion.project_id != caller.project_id or not caller.may_rate(completion.id):
        return False
    return settings.scope == "project" or completion.key_id == caller.key_id or caller.may(ANNOTATE)
