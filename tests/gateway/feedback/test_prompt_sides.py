"""The side of a prompt is settled by its first pair and stays, whatever happens afterwards."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gateway.access.caller import Caller
from gateway.access.secrets import Secrets
from gateway.feedback.bodies import parse_body
from gateway.feedback.capture import FeedbackCapture
from gateway.settings import FeedbackSettings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import PromptSide
from gateway.storage.migrate import migrate
from gateway.storage.tables import Alias, Project

CALLER = Caller("key_1", "proj_1", frozenset({"feedback", "feedback:write_text"}))
EARLY = FeedbackSettings(holdout_start_pairs=2, holdout_start_share=0.5, holdout_share=0.1)
LATE = FeedbackSettings(holdout_start_pairs=0, holdout_start_share=0.5, holdout_share=0.1)

Step = tuple[int, str, bool]


def pair(prompt: int, preferred: str) -> Any:
    return parse_body(
        {
            "type": "pair",
            "source": "s",
            "licence": "l",
            "input": {"messages": [{"role": "user", "content": f"prompt {prompt}"}]},
            "preferred_output": [{"role": "assistant", "content": preferred}],
            "non_preferred_output": [{"role": "assistant", "content": "other"}],
        }
    )


async def furnish(database: Database) -> None:
    await migrate(database)
    async with database.write() as session:
        session.add(Project(id="proj_1", name="one", created_at=1.0))
        await session.flush()
        alias = Alias(name="a", project_id="proj_1", base_release_id="r", serving_release_id="r")
        alias.created_at = alias.updated_at = 1.0
        session.add(alias)


async def play(database: Database, steps: list[Step]) -> None:
    await furnish(database)
    settled: dict[str, str] = {}
    for prompt, preferred, retract in steps:
        # the share shrinks half-way, as it does once enough is held out
        capture = FeedbackCapture(EARLY if len(settled) < 3 else LATE, Secrets("root"))
        async with database.write() as session:
            reply = (await capture.capture(session, CALLER, pair(prompt, preferred))).reply
            if retract:
                await capture.retract(session, CALLER, reply["id"])
        async with database.read() as session:
            now = {row.prompt_hash: row.side for row in await session.scalars(select(PromptSide))}
        assert now.items() >= settled.items()
        assert reply["target"]["prompt_hash"] in now
        settled = now
    await database.close()


@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from("xyz"), st.booleans()), min_size=1, max_size=15))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_side_of_a_prompt_never_changes(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    path = tmp_path_factory.mktemp("sides") / "alignway.db"
    asyncio.run(play(Database(f"sqlite+aiosqlite:///{path}"), steps))
