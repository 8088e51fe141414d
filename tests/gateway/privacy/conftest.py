"""A project whose users chat and vote, and what is made of that, over a real database and a real store."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.access.caller import Caller
from gateway.access.secrets import Secrets
from gateway.contracts.ids import COMPLETION, mint
from gateway.datasets.freeze import freeze
from gateway.feedback.bodies import parse_body
from gateway.feedback.capture import Captured, FeedbackCapture
from gateway.privacy.erasure import Policy, carry_out, request_erasure
from gateway.settings import DatasetSettings, FeedbackSettings
from gateway.storage.database import Database
from gateway.storage.datasets import record_dataset
from gateway.storage.feedback_tables import Completion, Dataset
from gateway.storage.privacy_tables import Erasure
from gateway.storage.tables import Alias, ApiKey, Project, ReleaseRow

DELEGATE = Caller("key_app", "proj_1", frozenset({"feedback", "feedback:write_text", "feedback:delegate"}))
DAY = 86400.0


@dataclass
class Place:
    """One project `proj_1` with the alias `assistant`; another, `proj_2`, with the alias `other`."""

    database: Database
    store: Path
    secrets: Secrets = field(default_factory=lambda: Secrets("root"))

    async def prepare(self) -> None:
        """The rows that everything else refers to."""
        async with self.database.write() as session:
            session.add_all([Project(id=f"proj_{n}", name=f"p{n}", created_at=1.0) for n in (1, 2)])
            await session.flush()
            for name, project in (("assistant", "proj_1"), ("other", "proj_2")):
                session.add(
                    Alias(name=name, project_id=project, base_release_id="rel_base", serving_release_id="rel_base",
                          created_at=1.0, updated_at=1.0)
                )  # fmt: skip
            for key, project in (("key_app", "proj_1"), ("key_other", "proj_2")):
                session.add(ApiKey(id=key, project_id=project, name=key, secret_sha256=key, scopes=[], created_at=1.0))

    async def complete(self, user: str | None, text: str, prompt: str = "Is it safe?", **columns: Any) -> str:
        """Store a completion for an end user; returns its id."""
        row = {
            "id": mint(COMPLETION),
            "project_id": "proj_1",
            "key_id": "key_app",
            "alias": "assistant",
            "release_id": "rel_base",
            "status": "finished",
            "messages": [{"role": "user", "content": prompt}],
            "parameters": {},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {},
            "end_user_hash": self.secrets.keyed_hash("end_user", user) if user else None,
            "created_at": time.time(),
            "total_seconds": 1.0,
            "call_metadata": {},
        } | columns
        async with self.database.write() as session:
            session.add(Completion(**row))
        return str(row["id"])

    async def vote(self, user: str | None, body: dict[str, Any], caller: Caller = DELEGATE) -> Captured:
        """Take a vote in, in the name of a user."""
        named = body | ({"rater": {"id": user, "kind": "end_user"}} if user else {})
        capture = FeedbackCapture(FeedbackSettings(), self.secrets)
        async with self.database.write() as session:
            return await capture.capture(session, caller, parse_body(named))

    async def prefer(self, user: str | None, chosen: str, rejected: str, **fields: Any) -> str:
        """Vote for one completion against another; returns the vote's id."""
        refs = {"chosen": {"completion_id": chosen}, "rejected": [{"completion_id": rejected}]}
        caller = fields.pop("caller", DELEGATE)
        return str((await self.vote(user, {"type": "preference"} | refs | fields, caller)).reply["id"])

    async def chat_and_vote(self, user: str, prompt: str) -> str:
        """Two answers to a user's question and the user's vote between them; returns the vote's id."""
        chosen = await self.complete(user, f"Yes, {prompt}", prompt)
        return await self.prefer(user, chosen, await self.complete(user, f"No, {prompt}", prompt))

    async def freeze(self, dataset_id: str, alias: str = "assistant") -> Path:
        """A data set of every pair there is, on disk and as a row."""
        folder = self.store / "datasets" / dataset_id
        card = await freeze(self.database, folder, alias, DatasetSettings())
        async with self.database.write() as session:
            location = f"datasets/{dataset_id}"
            await record_dataset(session, dataset_id, alias=alias, location=location, card=card, now=time.time())
        return folder

    async def release(self, release_id: str, dataset_id: str | None, state: str = "published") -> None:
        """A release trained on a data set."""
        async with self.database.write() as session:
            session.add(
                ReleaseRow(id=release_id, alias="assistant", name=release_id, kind="aligned", state=state,
                           location="", manifest={"dataset_id": dataset_id}, created_at=1.0)
            )  # fmt: skip

    async def request(self, user: str, policy: Policy = "flag", project: str | None = None) -> Erasure:
        """Ask for an erasure."""
        async with self.database.write() as session:
            return await request_erasure(session, self.secrets, user, policy, "key_admin", project)

    async def erase(self, user: str, policy: Policy = "flag", project: str | None = None) -> Erasure:
        """Ask for an erasure and carry it out."""
        return await carry_out(self.database, self.store, (await self.request(user, policy, project)).id)

    async def rows(self, table: type[Any]) -> list[Any]:
        """Every row of a table."""
        async with self.database.read() as session:
            return list(await session.scalars(select(next(iter(table.__table__.primary_key)))))

    async def dataset(self, dataset_id: str) -> Dataset:
        """A data set's row."""
        async with self.database.read() as session:
            return await session.get_one(Dataset, dataset_id)


@pytest.fixture
async def place(database: Database, tmp_path: Path) -> Place:
    place = Place(database, tmp_path / "store")
    await place.prepare()
    return place
