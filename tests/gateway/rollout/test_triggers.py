"""What the triggers count."""

from datetime import UTC, datetime

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.rollout.triggers import PairCounts, count_pairs
from gateway.rollout.usable import UsableCounts
from gateway.settings import AlignerSettings, Settings
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


async def test_a_run_by_itself_waits_for_pairs_that_a_data_set_would_hold_not_for_votes(served: Served) -> None:
    """Twenty prompts of which eight nearly say the same: these make three pairs at most, so 15 of 20 are used."""
    near = "please tell me in a few words why the sky is blue today and not green at all"
    alike = [f"{near} {number}" for number in range(8)]
    others = [f"a question about number {number}" for number in range(12)]
    await store(served, "proj_1", *alike, *others)
    everything = Settings(aligner=AlignerSettings(auto_min_train_pairs=1, auto_min_holdout_pairs=1))
    eligible = PairCounts(train=20, holdout=20, new=20)

    async def is_enough(train: int) -> bool:
        aligner = AlignerSettings(auto_min_train_pairs=train, auto_min_holdout_pairs=1)
        counts = UsableCounts(served.database, everything.model_copy(update={"aligner": aligner}))
        assert not counts.is_enough(ALIAS, eligible)  # nobody waits for the count
        await counts.settled()
        return counts.is_enough(ALIAS, eligible)

    async with served.database.write() as session:
        numbered = enumerate([*alike, *others])
        rows = [
            {"alias": ALIAS, "prompt_hash": text, "side": "holdout" if text == others[0] else "train", "number": number}
            | {"cluster": near if text in alike else text, "bridges": False, "signature": b""}
            for number, text in numbered
        ]
        await settle_prompts(session, rows)
    assert [await is_enough(train) for train in (14, 15)] == [True, False]
