"""Ask for a training run of an alias by hand, or only for what it would be: one way for the route and the command."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.training import MINIMUM_PAIRS_BY_HAND, TrainingOptions
from gateway.datasets.settle import settle
from gateway.errors import InvalidRequest
from gateway.rollout.forecast import foretell, view
from gateway.rollout.job_sources import require_weights
from gateway.rollout.promotion import find_trainable
from gateway.rollout.triggers import PairCounts, count_pairs
from gateway.settings import Settings
from gateway.storage.audit import write_audit
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import create_run, queue_position
from gateway.storage.tables import Alias


@dataclass(frozen=True)
class Wish:
    """What somebody asks for."""

    alias: str | None
    """May be left out where there is only one."""
    options: TrainingOptions
    allow_downtime: bool = False


@dataclass(frozen=True)
class Queued:
    """A run that was asked for."""

    run: Run
    pairs: PairCounts
    position: int
    """Open runs of the alias before it."""


async def queue_run(database: Database, settings: Settings, wish: Wish, actor: str, now: float) -> Queued:
    """Queue the run. Raises `InvalidRequest` if the alias is not named, or has too few pairs."""
    name = await _settled(database, settings, wish)
    async with database.write() as session:
        alias = await alias_to_train(session, name)
        pairs = await count_pairs(session, name)
        if (lacking := _lacking(name, pairs)) is not None:
            raise InvalidRequest(lacking, code="not_enough_pairs")
        await require_weights(session, alias)
        run = await create_run(
            session,
            alias=name,
            trigger="manual",
            actor=actor,
            options=wish.options,
            now=now,
            allow_downtime=wish.allow_downtime,
        )
        counted = {"train_pairs": pairs.train, "holdout_pairs": pairs.holdout}
        after = {"run": run.id, "options": run.options, "allow_downtime": run.allow_downtime, **counted}
        await write_audit(session, actor=actor, action="run.queued", subject=name, after=after)
        return Queued(run, pairs, await queue_position(session, run))


async def try_out(database: Database, settings: Settings, wish: Wish, now: float) -> dict[str, Any]:
    """What the run would be, and whether it would start; nothing is queued."""
    name = await _settled(database, settings, wish)
    async with database.read() as session:
        alias = await alias_to_train(session, name)
        pairs = await count_pairs(session, name)
        forecast = await foretell(
            session, settings.aligner, alias, wish.options, pairs, now, allow_downtime=wish.allow_downtime
        )
    lacking = _lacking(name, pairs)
    told = view(forecast) if lacking is None else view(forecast) | {"starts": "never", "starts_reason": lacking}
    return {
        "object": "run.dry_run",
        "alias": name,
        "would_start": told["starts"] != "never",
        "train_pairs": pairs.train,
        "holdout_pairs": pairs.holdout,
        "method": wish.options.method,
        **told,
    }


async def alias_to_train(session: AsyncSession, name: str | None) -> Alias:
    """The alias of that name, or the only one. Raises `InvalidRequest`, naming those there are."""
    if name is not None:
        return await find_trainable(session, name)
    aliases = (await session.scalars(select(Alias).where(Alias.task == "chat").order_by(Alias.name))).all()
    if len(aliases) != 1:
        known = ", ".join(alias.name for alias in aliases) or "none"
        raise InvalidRequest(f"Say which alias to train; there are: {known}.", param="alias", code="alias_required")
    return aliases[0]


async def _settled(database: Database, settings: Settings, wish: Wish) -> str:
    async with database.read() as session:
        name = (await alias_to_train(session, wish.alias)).name
    await settle(database, name, settings.datasets)
    return name


def _lacking(name: str, pairs: PairCounts) -> str | None:
    if pairs.train + pairs.holdout >= MINIMUM_PAIRS_BY_HAND and pairs.train > 0:
        return None
    return (
        f"`{name}` has {pairs.train + pairs.holdout} eligible pairs ({pairs.train} to train on); a run asked for by "
        f"hand needs {MINIMUM_PAIRS_BY_HAND}. Send more feedback to POST /v1/feedback."
    )
