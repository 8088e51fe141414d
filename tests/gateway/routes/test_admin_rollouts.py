"""A canary over HTTP: asked for, looked at, and what its rollback paused let go again."""

import time
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.rollout.watch import look_at
from gateway.sections.canary import CanarySettings
from gateway.storage.audit import list_audit
from gateway.storage.tables import Alias
from tests.gateway.rollout.served import Served
from tests.gateway.rollout.test_canary import answer, begun
from tests.gateway.routes.test_admin_keys import Api, api

__all__ = ["api"]


async def unfenced(_: AsyncSession) -> None:
    """The application's own reconciler holds the lease, and looks seldom."""


@pytest.fixture
async def served(api: Api) -> Served:
    served = Served(api.services.database)
    await served.prepare()
    return served


async def test_a_rollout_is_shown_with_its_step_share_dwell_evidence_and_e_value(api: Api, served: Served) -> None:
    rollout = await begun(served)
    await answer(served, "rel_a", 30)
    await look_at(served.database, rollout.id, CanarySettings(), time.time() + 0.01, unfenced)
    status, shown = await api.call("GET", f"/rollouts/{rollout.id}")
    assert (status, shown["state"], shown["step"], shown["share"]) == (200, "canary", 0, 0.05)
    canary: dict[str, Any] = shown["canary"]
    assert (canary["dwell_left_requests"], canary["e_value"], canary["next"]) == (170, 1.0, "wait")
    assert 1700 < canary["dwell_left_seconds"] <= 1800
    assert [signal["bad"] for signal in shown["evidence"]["signals"]] == [False] * 7
    assert shown["steps"][0]["evidence"] is None


async def test_the_first_share_is_that_of_the_settings_unless_another_is_asked_for(api: Api, served: Served) -> None:
    for body, share in (({}, 0.05), ({"canary_share": 0.01}, 0.01)):
        asked = {"release": "rel_a", "strategy": "canary", **body}
        status, begun = await api.call("POST", "/aliases/assistant/promote", asked)
        assert (status, begun["share"]) == (202, share)
        assert (await api.call("POST", "/aliases/assistant/rollback", {}))[0] == 202


async def test_what_a_rollback_paused_goes_on_when_a_person_says_so_and_is_written_down(
    api: Api, served: Served
) -> None:
    async with served.database.write() as session:
        (await session.get_one(Alias, "assistant")).auto_training_paused_reason = "errors"
    _, shown = await api.call("GET", "/aliases/assistant")
    assert shown["auto_training_paused_reason"] == "errors"
    for _ in range(2):
        status, resumed = await api.call("POST", "/aliases/assistant/resume-training", {})
        assert (status, resumed["auto_training_paused_reason"]) == (200, None)
    async with served.database.read() as session:
        told = [entry.row.action for entry in await list_audit(session, 5)]
    assert told == ["alias.training_resumed"]
