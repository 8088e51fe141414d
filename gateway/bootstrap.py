"""What must be in the database before anything can be served: project, keys, aliases, base releases, replicas."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.caller import SCOPES
from gateway.access.issue import note_new_key
from gateway.agent.settings import devices_of, replica_id
from gateway.contracts import ids
from gateway.contracts.ids import WEIGHTS_NAME
from gateway.contracts.release import release_name
from gateway.errors import StartupFailed
from gateway.settings import ModelSettings, Settings
from gateway.storage import keys
from gateway.storage.audit import START
from gateway.storage.replicas import GIVEN, register_replica
from gateway.storage.routing_state import bump_epoch
from gateway.storage.tables import Alias, ReleaseRow, Replica


@dataclass(frozen=True)
class ResolvedModel:
    """A model found on this machine: its folder, and how it is called everywhere."""

    folder: str
    reference: dict[str, Any]
    """A `BaseModelRef`."""
    weights_name: str = WEIGHTS_NAME
    """What the engine calls it; engines of our own all use the same name."""
    engine_kind: str | None = None
    """What somebody else's engine turned out to be; None: what the settings say."""


async def ensure_first_key(session: AsyncSession, settings: Settings) -> str | None:
    """Make the first admin key; returns its secret if it was minted just now, to be shown once."""
    project = await keys.ensure_project(session)
    await keys.ensure_root_secret(session)
    if settings.admin_key is not None:
        if await keys.find_key(session, settings.admin_key) is None:
            key, _ = await keys.create_key(session, project.id, "admin (from settings)", SCOPES, settings.admin_key)
            await note_new_key(session, key, START)
        return None
    if await keys.list_keys(session):
        return None
    key, secret = await keys.create_key(session, project.id, "first admin", SCOPES)
    await note_new_key(session, key, START)
    return secret


async def ensure_alias(session: AsyncSession, model: ModelSettings, resolved: ResolvedModel) -> Alias:
    """The alias of a `[[models]]` entry, made over its base model on first use.

    Raises `StartupFailed` if the alias was made over another base.
    """
    alias = await session.get(Alias, model.alias)
    if alias is None:
        return await _create_alias(session, model, resolved)
    base = await session.get_one(ReleaseRow, alias.base_release_id)
    was, now = base.manifest["base"], resolved.reference
    if model.task == "chat" and was["weights_sha256"] != now["weights_sha256"]:
        if await _was_base_of(session, alias, now["weights_sha256"]):
            alias.swap, alias.task = model.swap, model.task
            return alias  # it changed to a base that was added later, whose place its release knows
        raise StartupFailed(
            f"The alias `{alias.name}` stands on {was['model']} (weights {was['weights_sha256'][:12]}), but the "
            f"settings give {now['model']} ({now['weights_sha256'][:12]}). Use another --alias or --data-dir."
        )
    base.location, base.manifest = resolved.folder, base.manifest | {"base": now}
    alias.swap, alias.task = model.swap, model.task
    return alias


async def _was_base_of(session: AsyncSession, alias: Alias, weights_sha256: str) -> bool:
    bases = await session.scalars(select(ReleaseRow).where(ReleaseRow.alias == alias.name, ReleaseRow.kind == "base"))
    return any(base.manifest["base"]["weights_sha256"] == weights_sha256 for base in bases)


async def _create_alias(session: AsyncSession, model: ModelSettings, resolved: ResolvedModel) -> Alias:
    project, now = await keys.ensure_project(session), time.time()
    base_id = ids.mint(ids.RELEASE)
    alias = Alias(
        name=model.alias,
        project_id=project.id,
        base_release_id=base_id,
        serving_release_id=base_id,
        canary_share=0.0,
        swap=model.swap,
        task=model.task,
        created_at=now,
        updated_at=now,
    )
    session.add(alias)
    await session.flush()
    base = ReleaseRow(
        id=base_id,
        alias=model.alias,
        name=release_name(model.alias, datetime.now(UTC), 0),
        kind="base",
        state="published",
        location=resolved.folder,
        manifest={"base": resolved.reference},
        tainted=False,
        created_at=now,
    )
    session.add(base)
    await session.flush()
    return alias


async def ensure_replicas(session: AsyncSession, model: ModelSettings, alias: Alias, resolved: ResolvedModel) -> None:
    """A row for every replica of the entry, beside those that promotions gave; what is known of one is kept."""
    addresses: Sequence[str | None] = model.engine.addresses or [None] * model.replicas
    wanted = {replica_id(model.alias, number + 1): url for number, url in enumerate(addresses)}
    devices = {name: devices_of(model, number) for number, name in enumerate(wanted)}
    # A replica that left the settings has no agent any more, and would hold up every exchange.
    left = (Replica.alias == alias.name, Replica.id.not_in(wanted), Replica.origin != GIVEN)
    await session.execute(delete(Replica).where(*left))
    kind = resolved.engine_kind or model.engine.kind
    for name, url in wanted.items():
        row = (name, alias.name, kind, alias.base_release_id, url, resolved.weights_name, devices[name])
        await register_replica(session, *row)
    await bump_epoch(session)
