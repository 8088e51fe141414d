"""A project with completions, annotators and a queue over a real database."""

import random
import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update

from gateway.access.caller import Caller
from gateway.access.secrets import Secrets
from gateway.annotation.bodies import AnnotatorBody, ClaimBody, GoldBody, SubmitBody
from gateway.annotation.claim import Claims
from gateway.annotation.errors import QueueEmpty
from gateway.annotation.gold import create_gold
from gateway.annotation.items import item_of
from gateway.annotation.order import COMPARISON, TIERS
from gateway.annotation.refill import Refill
from gateway.annotation.submit import Submissions
from gateway.contracts.ids import COMPLETION, mint
from gateway.feedback.bodies import ChoiceRef, parse_body
from gateway.feedback.capture import FeedbackCapture
from gateway.settings import AnnotationSettings, FeedbackSettings
from gateway.storage import annotation as rows
from gateway.storage.annotation_tables import AnnotationTask, AnnotationVerdict
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from gateway.storage.tables import Alias, Project

SCOPES = frozenset({"annotate", "feedback", "feedback:write_text", "feedback:delegate"})
QUIET = AnnotationSettings(gold_share=0, repeat_share=0, audit_share=0)
"""Nothing comes by chance but the sides."""


def annotator(name: str) -> Caller:
    """A key that annotates in its own name."""
    return Caller(f"key_{name}", "proj_1", SCOPES)


@dataclass
class Office:
    """Lets annotators work, each call in a transaction of its own."""

    database: Database
    settings: AnnotationSettings = QUIET
    secrets: Secrets = field(default_factory=lambda: Secrets("root"))
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    @property
    def capture(self) -> FeedbackCapture:
        """How votes are taken in."""
        return FeedbackCapture(FeedbackSettings(), self.secrets)

    async def furnish(self) -> None:
        """A project `proj_1` with the alias `assistant`, and a stranger's project `proj_2`."""
        async with self.database.write() as session:
            session.add_all([Project(id=f"proj_{n}", name=f"p{n}", created_at=1.0) for n in (1, 2)])
            await session.flush()
            times = {"created_at": 1.0, "updated_at": 1.0}
            releases = {"base_release_id": "rel_1", "serving_release_id": "rel_1"}
            session.add(Alias(name="assistant", project_id="proj_1", **releases, **times))

    async def complete(self, text: str, prompt: str = "Is it safe?", **columns: Any) -> str:
        """Store a completion; returns its id."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        values = {
            "id": mint(COMPLETION),
            "project_id": "proj_1",
            "key_id": "key_1",
            "alias": "assistant",
            "release_id": "rel_1",
            "status": "finished",
            "messages": [{"role": "user", "content": prompt}],
            "parameters": {},
            "choices": [choice],
            "usage": {},
            "created_at": time.time(),
            "total_seconds": 1.0,
            "call_metadata": {},
        }
        async with self.database.write() as session:
            session.add(Completion(**values | columns))
        return str((values | columns)["id"])

    async def comparison(self, good: str = "Yes.", bad: str = "No.", **fields: Any) -> tuple[str, str]:
        """Two completions of one prompt, and a task to compare them; returns their ids."""
        one, other = await self.complete(good), await self.complete(bad)
        item, sides = item_of(ChoiceRef(completion_id=one), ChoiceRef(completion_id=other))
        values = {"project_id": "proj_1", "alias": "assistant", "purpose": COMPARISON, "tier": TIERS[COMPARISON]}
        async with self.database.write() as session:
            await rows.add_task(session, time.time(), item=item, sides=sides, **values | fields)
        return one, other

    async def gold(self, better: str, worse: str) -> dict[str, Any]:
        """A gold item."""
        body = GoldBody.model_validate({"better": {"completion_id": better}, "worse": {"completion_id": worse}})
        async with self.database.write() as session:
            return await create_gold(session, annotator("admin"), body, FeedbackSettings(), time.time())

    async def vote(self, who: Caller, chosen: str, rejected: str, **fields: Any) -> str:
        """An ordinary vote; returns its id."""
        refs = {"chosen": {"completion_id": chosen}, "rejected": [{"completion_id": rejected}]}
        if fields.get("verdict", "prefer") != "prefer":
            refs = {"choices": [refs["chosen"], *refs["rejected"]]}  # type: ignore[dict-item]
        async with self.database.write() as session:
            captured = await self.capture.capture(session, who, parse_body({"type": "preference"} | refs | fields))
        return str(captured.reply["id"])

    async def refill(self) -> None:
        """Fill the queue from the votes."""
        async with self.database.write("relaxed") as session:
            await Refill("proj_1", self.settings, b"audit").run(session, time.time())

    async def claim(self, who: Caller, now: float | None = None, **body: Any) -> dict[str, Any]:
        """The next task, as the route hands it out."""
        await self.refill()
        claims = Claims(self.settings, self.secrets, self.chance)
        async with self.database.write("relaxed") as session:
            task = await claims.claim(session, who, ClaimBody.model_validate(body), now or time.time())
        if task is None:
            raise QueueEmpty
        return task

    async def submit(self, who: Caller, task: dict[str, Any] | str, verdict: str, **body: Any) -> dict[str, Any]:
        """A verdict on a task."""
        task_id = task if isinstance(task, str) else task["id"]
        given = SubmitBody.model_validate({"verdict": verdict} | body)
        async with self.database.write() as session:
            return await self._submissions.submit(session, who, task_id, given, time.time())

    async def undo(self, who: Caller) -> dict[str, Any]:
        """Take the last verdict back."""
        async with self.database.write() as session:
            return await self._submissions.undo(session, who, AnnotatorBody(), time.time())

    async def choose(self, who: Caller, task: dict[str, Any], text: str, **body: Any) -> dict[str, Any]:
        """Prefer the answer that says `text`, whichever side it is on."""
        return await self.submit(who, task, "left" if task["left"]["text"] == text else "right", **body)

    async def expire(self) -> None:
        """Let the time of all leases run out."""
        async with self.database.write() as session:
            await session.execute(update(AnnotationTask).values(lease_expires_at=1.0))

    async def tasks(self) -> list[AnnotationTask]:
        """All tasks, the oldest first."""
        return await self._all(AnnotationTask)

    async def verdicts(self) -> list[AnnotationVerdict]:
        """All verdicts."""
        return await self._all(AnnotationVerdict)

    async def votes(self) -> list[Feedback]:
        """All votes."""
        return await self._all(Feedback)

    async def pairs(self) -> list[PairRow]:
        """All pairs."""
        return await self._all(PairRow)

    @property
    def _submissions(self) -> Submissions:
        return Submissions(self.settings, self.capture, self.secrets)

    async def _all(self, table: Any) -> list[Any]:
        async with self.database.read() as session:
            return list(await session.scalars(select(table).order_by(table.id)))
