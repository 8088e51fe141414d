"""What the triggers count."""

from datetime import UTC, datetime

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.rollout.triggers import PairCounts, count_pairs
from gateway.storage import pairs
from gateway.storage.datasets import settle_prompts
from gateway.storage.feedback import insert_feedback
from gateway.storage.tables import Project
from tests.gateway.rollout.served import ALIAS, Served


def pair(project: str, prompt: str) -> FeedbackPair:
    side = Side(message=Message(role="assistant", content="a"), origin="import")
    return FeedbackPair(
        id=f"pair_{project}_{prompt}",
        project_id=project,
        prompt=(Message(role="user", content=prompt),),
        prompt_hash=prompt,
        chosen=side,
        rejected=side.model_copy(update={"message": Message(role="assistant", content="b")}),
        weight=1.0,
        rater=Rater(id_hash="r_1", kind="annotator"),
        feedback_ids=(f"fb_{project}",),
        judged_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


async def store(served: Served, project: str, *prompts: str) -> None:
    columns = {"alias": ALIAS, "natural_key": "k", "type": "pair", "status": "active", "revision": 1}
    columns |= {"rater_hash": "r_1", "rater_kind": "annotator", "body": {}, "target": {}}
    async with served.database.write() as session:
        await session.merge(Project(id=project, name=project, created_at=0.0))
        await session.flush()
        feedback = {"id": f"fb_{project}", "project_id": project, "created_at": 1.0, "updated_at": 1.0}
        await insert_feedback(session, columns | feedback)
        for prompt in prompts:
            await pairs.add_pair(session, pair(project, prompt), ALIAS, "eligible", None)


async def test_an_alias_counts_the_pairs_of_its_own_project_only(served: Served) -> None:
    await store(served, "proj_1", "p1", "p2", "h1")
    await store(served, "proj_2", "p1", "p3", "h1", "h2")
    async with served.database.write() as session:
        for prompt in ("p1", "p2", "p3", "h1", "h2"):
            side = {"alias": ALIAS, "prompt_hash": prompt, "side": "holdout" if prompt.startswith("h") else "train"}
            await settle_prompts(session, [side | {"number": 1, "cluster": prompt, "bridges": False, "signature": b""}])
    async with served.database.read() as session:
        assert await count_pairs(session, ALIAS) == PairCounts(train=2, holdout=1, new=3)
