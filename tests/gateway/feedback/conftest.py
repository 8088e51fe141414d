"""A project with an alias, completions to vote on, and the capture use case over a real database."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.access.caller import Caller
from gateway.access.secrets import Secrets
from gateway.contracts.ids import COMPLETION, mint
from gateway.contracts.message import Message
from gateway.feedback.bodies import parse_body
from gateway.feedback.capture import Captured, FeedbackCapture
from gateway.settings import FeedbackSettings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion
from gateway.storage.tables import Alias, Project

VOTER = Caller("key_voter", "proj_1", frozenset({"feedback", "feedback:write_text"}))


@dataclass
class Desk:
    """Stores completions and takes votes in, each in a transaction of its own."""

    database: Database
    settings: FeedbackSettings = field(default_factory=FeedbackSettings)
    secrets: Secrets = field(default_factory=lambda: Secrets("root"))
    caller: Caller = VOTER

    @property
    def capture(self) -> FeedbackCapture:
        """The use case under test."""
        return FeedbackCapture(self.settings, self.secrets)

    async def complete(self, *texts: str, prompt: str = "Is it safe?", finish: str = "stop", **columns: Any) -> str:
        """Store a completion with one choice per text; returns its id."""
        messages = [Message(role="user", content=prompt)]
        parameters = columns.pop("parameters", {})
        completion = Completion(
            **{
                "id": mint(COMPLETION),
                "project_id": "proj_1",
                "key_id": "key_1",
                "alias": "assistant",
                "release_id": "rel_1",
                "status": "finished",
                "messages": [message.model_dump(mode="json", exclude_none=True) for message in messages],
                "parameters": parameters,
                "choices": [
                    {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
                    for i, text in enumerate(texts)
                ],
                "usage": {},
                "end_user_hash": None,
                "created_at": time.time(),
                "first_chunk_seconds": None,
                "total_seconds": 1.0,
                "call_metadata": {},
            }
            | columns
        )
        async with self.database.write() as session:
            session.add(completion)
        return completion.id

    async def vote(self, body: dict[str, Any], caller: Caller | None = None) -> Captured:
        """Take a body in."""
        async with self.database.write() as session:
            return await self.capture.capture(session, caller or self.caller, parse_body(body))

    async def prefer(self, chosen: str, *rejected: str, **fields: Any) -> Captured:
        """Vote for the first completion against the others."""
        refs = [{"completion_id": completion_id} for completion_id in rejected]
        return await self.vote({"type": "preference", "chosen": {"completion_id": chosen}, "rejected": refs} | fields)


async def add_alias(database: Database, name: str, project_id: str = "proj_1") -> None:
    async with database.write() as session:
        session.add(
            Alias(
                name=name,
                project_id=project_id,
                base_release_id="rel_1",
                serving_release_id="rel_1",
                canary_release_id=None,
                created_at=1.0,
                updated_at=1.0,
            )
        )


@pytest.fixture
def make_alias(database: Database) -> Callable[..., Awaitable[None]]:
    """Adds an alias to a project."""

    async def make(name: str, project_id: str = "proj_1") -> None:
        await add_alias(database, name, project_id)

    return make


@pytest.fixture
async def desk(database: Database) -> Desk:
    """A project `proj_1` with the alias `assistant`, and a stranger's project `proj_2`."""
    async with database.write() as session:
        session.add_all([Project(id=f"proj_{n}", name=f"p{n}", created_at=1.0) for n in (1, 2)])
    await add_alias(database, "assistant")
    return Desk(database)
