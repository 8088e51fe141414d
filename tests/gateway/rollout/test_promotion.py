"""Promote and roll back at once, twice, too late and where it cannot work: on each kind of database."""

import asyncio
import time

import pytest
from sqlalchemy import update

from gateway.errors import Conflict
from gateway.rollout.promotion import Promotion, promote, roll_back
from gateway.storage import routing_state
from gateway.storage.audit import list_audit
from gateway.storage.database import Database
from gateway.storage.replicas import ReplicaReport, report_replica
from gateway.storage.rollouts import create_rollout, open_rollout, transition
from gateway.storage.tables import Replica
from tests.gateway.rollout.served import ALIAS, REPLICA, Served, held_back


async def loading(served: Served, release: str) -> int:
    """A promotion whose exchange the agent has taken on, while the incumbent still serves; the fence's epoch."""
    async with served.database.write() as session:
        row = await session.get_one(Replica, REPLICA)
        row.max_adapter_rank = 8  # no adapter: the alias moves with the weights
    await served.promote(release)
    while (await served.row()).swap_state is None:
        await served.reconciler.step()
    epoch = (await served.row()).epoch
    async with served.database.write() as session:
        assert await routing_state.begin_loading(session, REPLICA, epoch)
    return epoch


async def test_a_rollback_that_waits_for_an_exchange_to_complete_undoes_what_that_wrote(served: Served) -> None:
    epoch = await loading(served, "rel_a")
    async with served.database.write() as session:
        assert await routing_state.complete_swap(session, REPLICA, epoch, "rel_a")
        asked = await held_back(served.roll_back())
    assert (await asked).state == "rolled_back"
    assert await served.serving() == "rel_base"


async def test_an_exchange_that_completes_after_a_rollback_does_not_serve_its_release(served: Served) -> None:
    epoch = await loading(served, "rel_a")

    async def complete() -> bool:
        async with served.database.write() as session:
            return await routing_state.complete_swap(session, REPLICA, epoch, "rel_a")

    async with served.database.write() as session:
        await roll_back(session, ALIAS, None, "key_1", "bad")
        completing = await held_back(complete())
    assert await completing
    assert await served.serving() == "rel_base"
    assert (await served.row()).weights_release_id == "rel_a"
    await served.reconciler.step()
    assert (await served.row()).desired_weights_id == "rel_base"


async def test_a_plan_to_serve_the_candidate_is_dropped_when_a_rollback_came_first(served: Served) -> None:
    rollout = await served.promote("rel_a")
    while (await served.row()).desired_adapters != ["rel_a"]:
        await served.reconciler.step()
    async with served.database.write() as session:
        (await session.get_one(Replica, REPLICA)).adapters = ["rel_a"]
    async with served.database.write() as session:
        await roll_back(session, ALIAS, None, "key_1", "bad")
        reconciling = await held_back(served.reconciler.step())
    await reconciling
    assert await served.serving() == "rel_base"
    assert await served.state(rollout) == "rolled_back"


async def test_of_two_promotions_at_once_one_is_refused(served: Served) -> None:
    async with served.database.write() as session:
        await promote(session, Promotion(ALIAS, "rel_a", "immediate", "key_1"), time.time())
        second = await held_back(served.promote("rel_b"))
    with pytest.raises(Conflict) as refused:
        await second
    assert refused.value.code == "rollout_in_progress"


async def test_the_database_itself_holds_one_open_rollout_per_alias(served: Served) -> None:
    fields = {"incumbent_id": "rel_base", "strategy": "immediate", "canary_share": 0.0, "actor": "", "reason": ""}

    async def create(candidate: str) -> None:
        async with served.database.write() as session:
            await create_rollout(session, alias=ALIAS, candidate_id=candidate, **fields)  # type: ignore[arg-type]

    await create("rel_a")
    with pytest.raises(Conflict) as refused:
        await create("rel_b")
    assert refused.value.code == "rollout_in_progress"
    await served.roll_back()
    await create("rel_b")


async def test_a_step_is_refused_to_whoever_saw_an_older_state(served: Served) -> None:
    seen = await served.promote("rel_a")
    async with served.database.write() as session:
        rollout = await open_rollout(session, ALIAS)
        assert rollout is not None
        await transition(session, rollout, "stopped", "somebody else", "")
    with pytest.raises(Conflict) as refused:
        async with served.database.write() as session:
            await transition(session, seen, "canary", "late", "")
    assert refused.value.code == "rollout_moved_on"
    assert await served.state(seen) == "stopped"


async def test_a_rollback_asked_for_twice_is_one_rollback(served: Served) -> None:
    await served.promote("rel_a")
    await served.settle()
    first = await served.roll_back()
    again = await served.roll_back()
    named = await served.roll_back("rel_base")
    assert first.id == again.id == named.id
    assert (again.kind, again.state, again.candidate_id) == ("rollback", "promoting", "rel_base")
    with pytest.raises(Conflict) as refused:
        await served.roll_back("rel_b")
    assert refused.value.code == "rollout_in_progress"
    await served.settle()
    assert await served.serving() == "rel_base"


async def test_a_second_rollback_goes_further_back_and_never_to_the_release_left(served: Served) -> None:
    for release in ("rel_a", "rel_b"):
        await served.promote(release)
        await served.settle()
    gone_to = []
    for _ in range(2):
        await served.roll_back()
        await served.settle()
        gone_to.append(await served.serving())
    assert gone_to == ["rel_a", "rel_base"]
    with pytest.raises(Conflict) as refused:
        await served.roll_back()
    assert refused.value.code == "nothing_to_roll_back"


async def test_what_a_rollback_to_a_named_release_began_is_no_promotion_to_undo(served: Served) -> None:
    await served.promote("rel_a")
    await served.settle()
    await served.roll_back("rel_c")
    await served.settle()
    with pytest.raises(Conflict) as refused:
        await served.roll_back()
    assert refused.value.code == "nothing_to_roll_back"


@pytest.mark.parametrize(("rank", "said"), [(8, "up to rank 8"), (0, "load no adapters")])
async def test_a_release_that_no_engine_can_hold_as_an_adapter_is_refused(
    database: Database, rank: int, said: str
) -> None:
    served = Served(database)
    await served.prepare(swap="adapter")
    await served.replica(REPLICA, max_adapter_rank=rank)
    with pytest.raises(Conflict) as refused:
        await served.promote("rel_a")
    assert refused.value.code == "swap_not_possible"
    assert said in refused.value.message
    assert "engine.max_adapter_rank = 16" in refused.value.message
    await served.replica(REPLICA, phase="starting")  # an engine that is starting has not said what it can hold
    await served.promote("rel_a")


async def test_somebody_who_asks_anew_does_not_wait_for_what_was_put_off_before(served: Served) -> None:
    await served.replica(REPLICA, swap_not_before=time.time() + 600, swap_put_offs=9)
    await served.promote("rel_a")
    row = await served.row()
    assert (row.swap_not_before, row.swap_put_offs) == (None, 0)


async def test_a_report_and_a_plan_for_several_replicas_take_their_locks_in_one_order(served: Served) -> None:
    await served.replica("assistant-2")
    await served.promote("rel_a")
    for _ in range(2):
        await served.reconciler.step()  # waiting, canary, promoting; next: both replicas should hold the adapter
    async with served.database.write() as session:
        await session.execute(update(Replica).where(Replica.id == "assistant-2").values(restarts=1))
        planning = await held_back(served.reconciler.step())
        await routing_state.bump_epoch(session)
    await planning
    for replica_id in (REPLICA, "assistant-2"):
        assert (await served.row(replica_id)).desired_adapters == ["rel_a"]


async def test_reports_promotions_rollbacks_and_reconciling_never_wait_in_a_circle(served: Served) -> None:
    await served.replica("assistant-2")
    ends = time.monotonic() + 3
    failures: list[BaseException] = []

    async def over_and_over(job: object) -> None:
        while time.monotonic() < ends:
            try:
                await job()  # type: ignore[operator]
            except Conflict:
                pass
            except Exception as error:
                failures.append(error)
            await asyncio.sleep(0)

    async def report(replica_id: str) -> None:
        async with served.database.write("relaxed") as session:
            row = await session.get_one(Replica, replica_id)
            told = ReplicaReport("ready", None, "rel_base", tuple(row.desired_adapters), 16, 0, "")
            await report_replica(session, replica_id, told)

    jobs = [served.reconciler.step, lambda: served.promote("rel_a"), served.roll_back]
    jobs += [lambda: report(REPLICA), lambda: report("assistant-2")]
    await asyncio.gather(*(over_and_over(job) for job in jobs))
    assert failures == []


async def test_a_promotion_and_its_rollback_are_told_in_the_audit_with_what_served_before(served: Served) -> None:
    promotion = await served.promote("rel_a", strategy="canary")
    await served.roll_back()
    await served.settle()
    await served.promote("rel_b")
    await served.settle()
    back = await served.roll_back()
    async with served.database.read() as session:
        told = [
            (
                entry.row.actor,
                entry.row.action,
                entry.row.subject,
                entry.row.detail["before"],
                entry.row.detail["after"],
            )
            for entry in await list_audit(session, 10)
        ]
    assert len(told) == 4
    undone, _, ended, begun = told
    after = {"serving": "rel_a", "rollout": promotion.id, "strategy": "canary"}
    assert begun == ("key_1", "alias.promoted", ALIAS, {"serving": "rel_base"}, after)
    after = {"serving": "rel_base", "rollout": promotion.id}
    assert ended == ("key_1", "alias.rolled_back", ALIAS, {"serving": "rel_base"}, after)
    after = {"serving": "rel_base", "rollout": back.id}
    assert undone == ("key_1", "alias.rolled_back", ALIAS, {"serving": "rel_b"}, after)
