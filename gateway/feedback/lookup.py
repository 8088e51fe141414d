"""Finds completions by what they say or by their metadata, for voters that never saw our ids.

The way of an answer pays nothing for this: digests are put into a table when somebody looks for the first time, and
from then on for what has come since.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.contracts.message import Message
from gateway.contracts.prompt import normal_text, prompt_hash
from gateway.errors import Conflict, InvalidRequest, Unavailable
from gateway.feedback.bodies import explain
from gateway.feedback.completions import prompt_of, without_ignored
from gateway.feedback.identity import Caller
from gateway.feedback.targets import CompletionNotStored
from gateway.settings import FeedbackSettings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion
from gateway.storage.lookup import add_digests, find_by_digests, keys_of, unindexed

OVERLAP_SECONDS = 3600.0
"""No answer takes longer than this from its beginning to its record."""
BATCH = 500
PAUSE_SECONDS = 0.25
PATIENCE_SECONDS = 10.0
"""A caller waits this long for completions of the past to be gone through; the next one goes on from there."""
PLACES = ("chosen", "rejected", "choices", "target", "ranking")
"""The fields of a body that name choices."""


class AmbiguousTarget(Conflict):
    """Several completions fit."""

    code = "ambiguous_target"


class Matched(BaseModel):
    """A choice named by the prompt it answers and what it says."""

    model_config = ConfigDict(extra="forbid")
    messages: tuple[Message, ...] = Field(min_length=1, max_length=2048)
    content: str = Field(min_length=1)


class Reference(BaseModel):
    """A choice named without its id."""

    model_config = ConfigDict(extra="forbid")
    match: Matched | None = None
    metadata: dict[str, str] | None = Field(default=None, min_length=1, max_length=16)
    index: Annotated[int, Field(ge=0, lt=1024)] = 0
    """With `metadata`: which choice of the completion."""


async def resolve(database: Database, caller: Caller, body: Any, settings: FeedbackSettings) -> Any:
    """The decoded body with every reference replaced by the id of what it means.

    Raises `CompletionNotStored`, `AmbiguousTarget`, or `InvalidRequest` for a reference that cannot be read.
    """
    places = list(_references(body))
    if not places:
        return body
    references = [_parse(holder[key]) for holder, key in places]
    deadline = time.monotonic() + settings.completion_wait_seconds
    for (holder, key), reference in zip(places, references, strict=True):
        holder[key] = await _awaited(database, caller, reference, settings, deadline)
    return body


async def _awaited(
    database: Database, caller: Caller, reference: Reference, settings: FeedbackSettings, deadline: float
) -> dict[str, Any]:
    """What a reference means; one whose answer is still being written is waited for."""
    while True:
        await _catch_up(database, caller.project_id, settings)
        try:
            return await _resolved(database, caller, reference, settings)
        except CompletionNotStored:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


def _references(body: Any) -> Iterator[tuple[Any, Any]]:
    """Where references stand: the object or list that holds each, and under which key."""
    waiting: list[tuple[Any, Any]] = [(body, name) for name in PLACES if isinstance(body, dict) and name in body]
    while waiting:
        holder, key = waiting.pop()
        value = holder[key]
        if isinstance(value, list):
            waiting += [(value, index) for index in range(len(value))]
        elif isinstance(value, dict) and "completion_id" not in value and ("match" in value or "metadata" in value):
            yield holder, key


def _parse(raw: Any) -> Reference:
    try:
        reference = Reference.model_validate(raw)
    except ValidationError as error:
        place, reason, code = explain(error)
        raise InvalidRequest(f"`{place or 'match'}`: {reason}.", param=place or "match", code=code) from error
    if (reference.match is None) == (reference.metadata is None):
        raise InvalidRequest("Name a choice by one of `completion_id`, `match` and `metadata`.", param="match")
    return reference


async def _resolved(
    database: Database, caller: Caller, reference: Reference, settings: FeedbackSettings
) -> dict[str, Any]:
    digests = _digests_of(reference, settings)
    async with database.read() as session:
        found = await find_by_digests(session, caller.project_id, digests)
        if settings.scope == "key":
            keys = await keys_of(session, {one.completion_id for one in found})
            found = [one for one in found if keys.get(one.completion_id) == caller.key_id]
    if not found:
        raise CompletionNotStored("match" if reference.match else "metadata", by_id=False)
    if len(found) > 1:
        raise AmbiguousTarget(
            f"{'At least ' if len(found) >= 10 else ''}{len(found)} choices fit this description, the newest in "
            f"{found[0].completion_id}. Name the one that is meant by its `completion_id` and `index`, or give every "
            "answer metadata of its own.",
            param="match" if reference.match else "metadata",
        )
    return {
        "completion_id": found[0].completion_id,
        "index": reference.index if reference.metadata else found[0].choice,
    }


async def _catch_up(database: Database, project_id: str, settings: FeedbackSettings) -> None:
    """Put in what was recorded since the last look."""
    marker, deadline = _marker(project_id, settings), time.monotonic() + PATIENCE_SECONDS
    while True:
        async with database.read() as session:
            missing = await unindexed(session, project_id, marker, OVERLAP_SECONDS, BATCH)
        rows = [row for completion in missing for row in _rows(completion, marker, settings)]
        if rows:
            async with database.write() as session:
                await add_digests(session, rows)
        if len(missing) < BATCH:
            return
        if time.monotonic() > deadline:
            raise Unavailable(
                "Completions of the past are being gone through, so that they can be found by what they say. Send the "
                "vote again in a moment.",
                code="lookup_not_ready",
            )


def _rows(completion: Completion, marker: str, settings: FeedbackSettings) -> Iterator[dict[str, object]]:
    own = {
        "completion_id": completion.id,
        "project_id": completion.project_id,
        "created_at": completion.created_at,
    }
    yield own | {"digest": marker, "choice": 0}
    prompt = prompt_of(completion, settings)
    if prompt.is_task:
        return
    compared = prompt_hash(prompt.compared)  # voters do not see tools and formats
    for digest in {_digest("metadata", name, value) for name, value in completion.call_metadata.items()}:
        yield own | {"digest": digest, "choice": 0}
    for choice in completion.choices:
        text = Message.model_validate(choice["message"]).text
        yield own | {"digest": _digest("content", compared, normal_text(text)), "choice": choice["index"]}


def _digests_of(reference: Reference, settings: FeedbackSettings) -> set[str]:
    if reference.match is None:
        return {_digest("metadata", name, value) for name, value in (reference.metadata or {}).items()}
    compared = prompt_hash(without_ignored(reference.match.messages, settings.ignore))
    return {_digest("content", compared, normal_text(reference.match.content))}


def _marker(project_id: str, settings: FeedbackSettings) -> str:
    """Stands for "all digests of this completion are in", as long as the rules of comparison are the same."""
    rules = settings.model_dump_json(include={"ignore", "task_prompts"})
    return _digest("marker", project_id, rules)


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
