"""With `canary.unattended`, a release that every gate lets pass is tried without a person; no other one is."""

import time
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.release import PREFERENCE_GATE, GateResult
from gateway.rollout.unattended_canary import begin_canaries
from gateway.sections.canary import CanarySettings
from gateway.storage.rollouts import list_rollouts
from gateway.storage.tables import Alias, ReleaseRow, Rollout
from tests.gateway.rollout.served import ALIAS, Served

UNATTENDED = CanarySettings(unattended=True)
SURE = {"verdict": "pass", "low": 0.01, "n": 200}


async def unfenced(_: AsyncSession) -> None:
    return


async def judged(served: Served, release: str = "rel_a", **changes: Any) -> None:
    """The release was measured against what serves now, with this result of the preference gate."""
    result = {"gate": PREFERENCE_GATE, "value": 0.05, "limit": 0.0, "reason": "+5 points"} | SURE | changes
    async with served.database.write() as session:
        row = await session.get_one(ReleaseRow, release)
        gates = [GateResult.model_validate(result).model_dump(mode="json")]
        row.manifest, row.parent_id = row.manifest | {"gates": gates}, "rel_base"


async def begun(served: Served, rules: CanarySettings = UNATTENDED) -> list[tuple[str, str, str]]:
    await begin_canaries(served.database, rules, time.time(), unfenced)
    async with served.database.read() as session:
        return [(one.candidate_id, one.strategy, one.actor) for one in await list_rollouts(session, ALIAS)]


async def test_a_release_with_a_sure_gain_is_tried_once_at_the_first_share(served: Served) -> None:
    await judged(served)
    assert await begun(served) == [("rel_a", "canary", "unattended")]
    async with served.database.read() as session:
        rollout = (await session.scalars(select(Rollout))).one()
    assert (rollout.canary_share, rollout.incumbent_id) == (0.05, "rel_base")
    assert rollout.reason == "every gate is green; the gain is at least 0.010 on 200 held-out pairs"
    await served.roll_back()
    assert len(await begun(served)) == 1


@pytest.mark.parametrize("weak", [{"verdict": "warn"}, {"low": 0.0}, {"low": None}, {"n": 199}])
async def test_a_release_whose_gain_is_not_sure_waits_for_a_person(served: Served, weak: dict[str, Any]) -> None:
    await judged(served, **weak)
    assert await begun(served) == []


async def test_nothing_is_tried_unasked_unless_the_setting_says_so(served: Served) -> None:
    await judged(served)
    assert await begun(served, CanarySettings()) == []


async def test_a_release_measured_against_what_no_longer_serves_is_not_tried(served: Served) -> None:
    await judged(served)
    async with served.database.write() as session:
        (await session.get_one(ReleaseRow, "rel_a")).parent_id = "rel_b"
    assert await begun(served) == []


async def test_nothing_is_tried_under_an_alias_that_was_paused(served: Served) -> None:
    await judged(served)
    async with served.database.write() as session:
        (await session.get_one(Alias, ALIAS)).auto_training_paused_reason = "rolled back"
    assert await begun(served) == []
