"""Which pairs may train an alias."""

import time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.database import Database
from gateway.storage.datasets import eligible_sided_pairs
from gateway.storage.feedback_tables import Feedback, PairRow, PromptSide
from gateway.storage.tables import Alias, Project


def pair_body(number: int, project: str) -> dict[str, Any]:
    side = {"message": {"role": "assistant", "content": "x"}, "origin": "import"}
    return {
        "id": f"pair_{number}",
        "project_id": project,
        "prompt": [{"role": "user", "content": f"question {number}"}],
        "prompt_hash": f"ph_{number}",
        "chosen": side,
        "rejected": side,
        "weight": 1.0,
        "rater": {"id_hash": "r_1", "kind": "annotator"},
        "feedback_ids": [f"fb_{number}"],
        "judged_at": "2026-11-23T00:00:00Z",
    }


def add_pair(session: AsyncSession, number: int, project: str) -> None:
    now = time.time()
    session.add(
        Feedback(
            id=f"fb_{number}",
            project_id=project,
            alias="assistant",
            natural_key=f"key-{number}",
            type="pair",
            status="active",
            revision=1,
            rater_hash="r_1",
            rater_kind="annotator",
            body={},
            target={},
            created_at=now,
            updated_at=now,
        )
    )
    session.add(PromptSide(alias="assistant", prompt_hash=f"ph_{number}", side="holdout" if number % 2 else "train"))


def add_row(session: AsyncSession, number: int, project: str, state: str) -> None:
    session.add(
        PairRow(
            id=f"pair_{number}",
            feedback_id=f"fb_{number}",
            project_id=project,
            alias="assistant",
            prompt_hash=f"ph_{number}",
            state=state,
            body=pair_body(number, project),
            created_at=float(number),
        )
    )


async def test_only_eligible_pairs_of_the_alias_own_project_train_it(database: Database) -> None:
    pairs = [(0, "own", "eligible"), (1, "own", "eligible"), (2, "own", "held"), (3, "foreign", "eligible")]
    async with database.write() as session:
        for name in ("own", "foreign"):
            session.add(Project(id=name, name=name, created_at=0.0))
        await session.flush()
        session.add(
            Alias(
                name="assistant",
                project_id="own",
                base_release_id="rel_0",
                serving_release_id="rel_0",
                created_at=0.0,
                updated_at=0.0,
            )
        )
        for number, project, _ in pairs:
            add_pair(session, number, project)
        await session.flush()
        for number, project, state in pairs:
            add_row(session, number, project, state)
    async with database.read() as session:
        found = await eligible_sided_pairs(session, "assistant")
    assert [(sided.pair.id, sided.side) for sided in found] == [("pair_0", "train"), ("pair_1", "holdout")]
