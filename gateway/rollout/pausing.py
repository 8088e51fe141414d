"""Pause and resume training that begins by itself, and write down who did."""

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.rollout.promotion import find_trainable
from gateway.storage.audit import write_audit
from gateway.storage.tables import Alias


async def pause_training(session: AsyncSession, alias_name: str, actor: str, reason: str) -> Alias:
    """Let no training of an alias begin by itself. One that is paused stays so, for the reason that it is."""
    alias = await find_trainable(session, alias_name, locked=True)
    if alias.auto_training_paused_reason is None:
        alias.auto_training_paused_reason = reason or f"{actor} paused it"
        before, after = {"paused": None}, {"paused": alias.auto_training_paused_reason}
        await write_audit(
            session, actor=actor, action="alias.training_paused", subject=alias.name, before=before, after=after
        )
    return alias


async def resume_training(session: AsyncSession, alias_name: str, actor: str) -> Alias:
    """Let training of an alias begin by itself again; a person has looked at why its release was rolled back."""
    alias = await find_trainable(session, alias_name, locked=True)
    paused, alias.auto_training_paused_reason = alias.auto_training_paused_reason, None
    if paused is not None:
        before, after = {"paused": paused}, {"paused": None}
        await write_audit(
            session, actor=actor, action="alias.training_resumed", subject=alias.name, before=before, after=after
        )
    return alias
