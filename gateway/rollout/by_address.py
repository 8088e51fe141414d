"""Promotion by address: servers that somebody else runs on the candidate already join the pool for that release.

They are looked at before anything is written. Like every promotion it changes what is desired, and nothing else: what
served before keeps its address and can be gone back to at once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.engines.address import Server, Wanted, base_address, find_server
from gateway.errors import Conflict, InvalidRequest
from gateway.rollout.promotion import Promotion, find_release_of, find_trainable, promote
from gateway.storage.database import Database
from gateway.storage.releases import find_release
from gateway.storage.replicas import GIVEN, register_replica
from gateway.storage.routing_state import bump_epoch
from gateway.storage.tables import ReleaseRow, Replica, Rollout

REPLICA = "-url-"
"""Between the alias and what makes the id its own: an id is never used twice."""


async def find_servers(
    database: Database, alias_name: str, release: str, urls: Sequence[str], served_model: str | None
) -> tuple[Server, ...]:
    """The servers at `urls`, each proved to serve the release. Raises `NotFound`, `Conflict` or `InvalidRequest`."""
    addresses = list(dict.fromkeys(base_address(url) for url in urls))
    if served_model is not None and not addresses:
        raise InvalidRequest("`served_model` goes with `urls`: say where it is served.", param="urls")
    async with database.read() as session:
        row = await find_release_of(session, await find_trainable(session, alias_name), release)
    wanted = Wanted(row.id, row.name, served_model)
    return tuple(await asyncio.gather(*(find_server(url, wanted) for url in addresses)))


async def promote_at(session: AsyncSession, asked: Promotion, servers: Sequence[Server], now: float) -> Rollout:
    """Open a rollout of a release that these servers hold; with none, one that agents carry out. As `promote`."""
    rollout = await promote(session, replace(asked, held_elsewhere=bool(servers)), now)
    if servers:
        await _add(session, await session.get_one(ReleaseRow, rollout.candidate_id), servers)
    return rollout


async def _add(session: AsyncSession, release: ReleaseRow, servers: Sequence[Server]) -> None:
    for server in servers:
        named = await find_release(session, server.model)
        if named is not None and named.id != release.id:
            raise Conflict(
                f"`{server.model}` at {server.url} is called as another release. Start the server on {release.name} "
                f"with --served-model-name {release.name}.",
                param="urls",
                code="foreign_weights",
            )
        known = await _replica_at(session, server, release)
        replica_id = known.id if known else f"{release.alias}{REPLICA}{ids.mint(ids.RELEASE)[-8:]}"
        row = await register_replica(
            session, replica_id, release.alias, server.kind, release.id, server.url, server.model
        )
        row.origin = known.origin if known else GIVEN
        row.detail = ""
    await bump_epoch(session)


async def _replica_at(session: AsyncSession, server: Server, release: ReleaseRow) -> Replica | None:
    """The replica that this server is already. Raises `Conflict` if it is to hold something else."""
    there = select(Replica).where(Replica.url == server.url, Replica.weights_name == server.model)
    for row in await session.scalars(there):
        if row.alias == release.alias and row.weights_release_id == release.id and not row.managed:
            return row
        raise Conflict(
            f"`{server.model}` at {server.url} is replica {row.id} of `{row.alias}` already, and serves "
            f"{row.weights_release_id}. Start {release.name} at an address of its own, so that both can serve.",
            param="urls",
            code="address_in_use",
        )
    return None
