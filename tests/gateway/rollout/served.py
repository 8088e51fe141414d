"""An alias with releases and replicas as rows, whose agents the test plays."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from gateway.contracts.release import BaseModelRef
from gateway.rollout.promotion import Promotion, promote, roll_back
from gateway.rollout.reconciler import Reconciler
from gateway.settings import Settings
from gateway.storage import routing_state
from gateway.storage.database import Database
from gateway.storage.replicas import register_replica
from gateway.storage.rollouts import open_rollout
from gateway.storage.tables import Alias, Project, ReleaseRow, Replica, Rollout

ALIAS, REPLICA = "assistant", "assistant-1"


async def held_back(job: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start something that has to wait for a lock the test holds, and let it come so far."""
    task = asyncio.create_task(job)
    await asyncio.sleep(0.3)
    assert not task.done()
    return task


class Served:
    """One alias that serves `rel_base` from one ready replica; `rel_a` to `rel_c` may be promoted."""

    def __init__(self, database: Database, canary: dict[str, Any] | None = None) -> None:
        self.database = database
        settings = Settings.model_validate({"models": [{"model": "test"}], "canary": canary or {}})
        self.reconciler = Reconciler(database, settings, holder="gw_1")

    async def prepare(self, alias: str = ALIAS, swap: str = "merged") -> None:
        """The rows."""
        now = time.time()
        async with self.database.write() as session:
            await session.merge(Project(id="proj_1", name="one", created_at=now))
            await session.flush()
            base = "rel_base" if alias == ALIAS else f"rel_base_{alias}"
            session.add(
                Alias(name=alias, project_id="proj_1", base_release_id=base, serving_release_id=base, swap=swap,
                      created_at=now, updated_at=now)
            )  # fmt: skip
            await session.flush()
            names = (base, "rel_a", "rel_b", "rel_c") if alias == ALIAS else (base,)
            session.add_all(_release(alias, name, base) for name in names)
            await session.flush()
        await self.replica(f"{alias}-1", alias)

    async def replica(self, replica_id: str, alias: str = ALIAS, **columns: Any) -> None:
        """A replica that is ready on the base."""
        base = "rel_base" if alias == ALIAS else f"rel_base_{alias}"
        async with self.database.write() as session:
            row = await register_replica(session, replica_id, alias, "scripted", base)
            row.phase, row.weights_release_id, row.max_adapter_rank = "ready", base, 16
            for name, value in columns.items():
                setattr(row, name, value)

    async def promote(self, release: str, **fields: Any) -> Rollout:
        """Ask for a promotion."""
        asked = Promotion(ALIAS, release, fields.pop("strategy", "immediate"), "key_1", **fields)
        async with self.database.write() as session:
            return await promote(session, asked, time.time())

    async def roll_back(self, release: str | None = None) -> Rollout:
        """Ask for a rollback."""
        async with self.database.write() as session:
            return await roll_back(session, ALIAS, release, "key_1", "test")

    async def settle(self) -> None:
        """Reconcile until no rollout is open, doing at once what an agent would do."""
        for _ in range(30):
            await self.step()
            async with self.database.read() as session:
                if await open_rollout(session, ALIAS) is None:
                    return
        raise AssertionError("the rollout does not end")

    async def step(self) -> None:
        """One look of the reconciler, and what an agent does on it."""
        await self.reconciler.step()
        await self._obey()

    async def _obey(self) -> None:
        async with self.database.write() as session:
            row = await session.get_one(Replica, REPLICA)
            row.adapters = row.desired_adapters
            if row.swap_state == "draining":
                await routing_state.begin_loading(session, REPLICA, row.epoch)
        row = await self.row()
        if row.swap_state == "loading":
            async with self.database.write() as session:
                await routing_state.complete_swap(session, REPLICA, row.epoch, row.desired_weights_id)

    async def row(self, replica_id: str = REPLICA) -> Replica:
        """A replica's row."""
        async with self.database.read() as session:
            return await session.get_one(Replica, replica_id)

    async def serving(self) -> str:
        """What the alias serves."""
        async with self.database.read() as session:
            return (await session.get_one(Alias, ALIAS)).serving_release_id

    async def state(self, rollout: Rollout) -> str:
        """The state of a rollout now."""
        async with self.database.read() as session:
            return (await session.get_one(Rollout, rollout.id)).state


def _release(alias: str, name: str, base: str) -> ReleaseRow:
    reference = BaseModelRef(model="test/base", revision="1", weights_sha256="0" * 64)
    is_base = name == base
    return ReleaseRow(
        id=name,
        alias=alias,
        name=f"{alias}-{name}",
        kind="base" if is_base else "merged-for-test",
        state="published",
        location=name,
        adapter_rank=None if is_base else 16,
        base_release_id=None if is_base else base,
        manifest={"base": reference.model_dump()},
        created_at=time.time(),
    )
