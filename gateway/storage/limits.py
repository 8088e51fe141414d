"""The record of each limited key that all workers share, changed by one of them at a time."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.tables import LimitState
from gateway.storage.upsert import insert_if_absent

_SAVE = update(LimitState).where(LimitState.key_id == bindparam("row")).values(state=bindparam("new_state"))
_LOCK = (
    select(LimitState.key_id, LimitState.state)
    .where(LimitState.key_id.in_(bindparam("rows", expanding=True)))
    .order_by(LimitState.key_id)
    .with_for_update()
)


async def change_states(
    session: AsyncSession, key_ids: Sequence[str], change: Callable[[dict[str, dict[str, Any]]], dict[str, Any]]
) -> None:
    """Read the states of keys, made empty where there is none, and write what `change` makes of them.

    Until the transaction ends nobody else reads them to write. Always in the same order, so that nobody waits in a
    circle.
    """
    wanted = sorted(key_ids)
    states = await _locked(session, wanted)
    missing = [key_id for key_id in wanted if key_id not in states]
    if missing:
        for key_id in missing:
            await insert_if_absent(session, LimitState, key_id=key_id, state={})
        states = await _locked(session, wanted)
    changed = change(states)
    connection = await session.connection()
    await connection.execute(_SAVE, [{"row": key_id, "new_state": changed[key_id]} for key_id in wanted])


async def _locked(session: AsyncSession, key_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    rows = await (await session.connection()).execute(_LOCK, {"rows": key_ids})
    return {row.key_id: row.state for row in rows}
