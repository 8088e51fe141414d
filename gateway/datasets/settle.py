"""Settles the sides of new prompts: reads them, places them, writes where they lie. One at a time for an alias."""

import asyncio
import hashlib
import hmac
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import ulid
from gateway.datasets.ahead import one_ahead
from gateway.datasets.bodies import Turn
from gateway.datasets.shingles import prompt_text
from gateway.datasets.sides import Newcomers, Placed
from gateway.datasets.split import SplitSide, holdout_share, split_side
from gateway.errors import Unavailable
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.datasets import (
    bodies_of,
    has_unsettled,
    pairs_of_prompts,
    settle_prompts,
    unsettled_prompts,
)
from gateway.storage.keys import ensure_root_secret
from gateway.storage.leases import check_lease, release_lease, take_lease
from gateway.storage.pairs import SIGNATURE, count_sides, next_number, sides_of

SHINGLES = 8_000_000
"""Prompts are placed together until they have so many: 64 MB, and some more."""
ROWS = 5000
"""Written at once, so that no vote waits for long."""
LEASE_SECONDS = 120.0
PATIENCE_SECONDS = 300.0


class _Prompt(msgspec.Struct):
    """What is read of a pair: its prompt."""

    prompt: list[Turn]


class _Held(NamedTuple):
    name: str
    holder: str
    epoch: int


_read_prompts = msgspec.json.Decoder(dict[str, _Prompt]).decode


async def settle(database: Database, alias: str, settings: DatasetSettings) -> int:
    """Settle every prompt of the alias that has an eligible pair and no side; returns how many there were.

    Raises `Unavailable` if somebody else is at it for too long.
    """
    async with database.read() as session:
        if not await has_unsettled(session, alias):
            return 0
    async with _alone(database, alias) as lease:
        work = await _begin(database, alias, settings, lease)
        settled = 0
        while work.wanted:
            async with aclosing(one_ahead(_read_some(work))) as read:
                async for new in read:
                    await asyncio.to_thread(work.newcomers.take, new)
            await learn_all(database, alias, work.newcomers)
            settled += await _place_all(work, settled)
    return settled


@dataclass
class _Work:
    """What is read once: nobody else settles prompts of the alias meanwhile."""

    database: Database
    alias: str
    lease: _Held
    wanted: deque[tuple[str, str]]
    """Prompts without a side, and a pair of each."""
    newcomers: Newcomers
    first_number: int
    draw: Callable[[str], SplitSide]

    async def keep_lease(self, session: AsyncSession) -> None:
        """Raise `LeaseLost` if the lease is lost; else hold it for longer."""
        await check_lease(session, *self.lease)
        await take_lease(session, self.lease.name, self.lease.holder, LEASE_SECONDS, time.time())


async def _begin(database: Database, alias: str, settings: DatasetSettings, lease: _Held) -> _Work:
    async with database.write() as session:
        key = await split_key(session)
    newcomers = await beside_settled(database, alias)
    async with database.read() as session:
        first = await next_number(session, alias)
        held_out = [(await count_sides(session, alias)).get("holdout", 0) if first else 0]
        wanted = deque(await unsettled_prompts(session, alias))
    return _Work(database, alias, lease, wanted, newcomers, first, partial(draw, key, alias, settings, held_out))


async def beside_settled(database: Database, alias: str) -> Newcomers:
    """Newcomers beside the settled prompts of an alias; none so far."""
    newcomers = Newcomers()
    async with database.read() as session:
        async for rows in sides_of(session, alias, SIGNATURE):
            for prompt_hash, side, cluster, bridges, signature in rows:
                newcomers.know(Placed(prompt_hash, _side(side), cluster, bridges, signature))
    return newcomers


async def _read_some(work: _Work) -> AsyncGenerator[Iterator[tuple[str, str]], None]:
    """Wanted prompts with their texts, until there are many shingles. One that was erased meanwhile waits for the next
    time."""
    while work.wanted and work.newcomers.count_shingles < SHINGLES:
        async with work.database.write() as session:
            await work.keep_lease(session)
        wanted = [work.wanted.popleft() for _ in range(min(ROWS, len(work.wanted)))]
        async with work.database.read() as session:
            bodies = await bodies_of(session, [pair_id for _, pair_id in wanted])
        yield _texts_of(wanted, bodies)


def _texts_of(wanted: Iterable[tuple[str, str]], bodies: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """The hashes and texts of prompts by the pairs that hold them; read when they are asked for, in their thread."""
    prompts = {pair_id: prompt for text in bodies for pair_id, prompt in _read_prompts(text).items()}
    for prompt_hash, pair_id in wanted:
        if pair_id in prompts:
            yield prompt_hash, prompt_text(prompts[pair_id].prompt)


async def learn_all(
    database: Database, alias: str, newcomers: Newcomers, known: Mapping[str, str] | None = None
) -> None:
    """Read what those settled prompts say that newcomers may resemble. `known`: texts that need not be read."""
    told = known or {}
    while wanted := await asyncio.to_thread(newcomers.resembled):
        async with database.read() as session:
            pairs = await pairs_of_prompts(session, alias, sorted(wanted - told.keys()))
            bodies = await bodies_of(session, list(pairs.values()))
        texts = await asyncio.to_thread(dict, _texts_of(pairs.items(), bodies))
        texts |= {prompt_hash: told[prompt_hash] for prompt_hash in wanted & told.keys()}
        await asyncio.to_thread(newcomers.learn, texts)


async def _place_all(work: _Work, settled: int) -> int:
    """Write where they lie; returns how many they were."""
    count = 0
    async with aclosing(one_ahead(_placed(work))) as pieces:
        async for some in pieces:
            first = work.first_number + settled + count
            rows = [_row(work.alias, first + number, one) for number, one in enumerate(some)]
            async with work.database.write() as session:
                await work.keep_lease(session)
                await settle_prompts(session, rows)
            count += len(some)
    return count


async def _placed(work: _Work) -> AsyncGenerator[list[Placed], None]:
    """All that were taken, as many at a time as are written together."""
    placed = work.newcomers.place(work.draw)
    while some := await asyncio.to_thread(lambda: list(islice(placed, ROWS))):
        yield some


def draw(key: bytes, alias: str, settings: DatasetSettings, held_out: list[int], prompt_hash: str) -> SplitSide:
    """The side of a prompt that resembles none; `held_out` counts what lies on the other side so far."""
    share = holdout_share(
        held_out[0],
        start_pairs=settings.holdout_start_pairs,
        start_share=settings.holdout_start_share,
        share=settings.holdout_share,
    )
    side = split_side(key, alias, prompt_hash, share)
    held_out[0] += side == "holdout"  # a prompt has one pair at least
    return side


async def split_key(session: AsyncSession) -> bytes:
    """The key without which nobody can tell on which side a prompt will lie."""
    return hmac.digest((await ensure_root_secret(session)).encode(), b"holdout", hashlib.sha256)


def _side(text: str) -> SplitSide:
    return "holdout" if text == "holdout" else "train"


def _row(alias: str, number: int, placed: Placed) -> dict[str, Any]:
    return {
        "alias": alias,
        "prompt_hash": placed.prompt_hash,
        "side": placed.side,
        "number": number,
        "cluster": placed.cluster,
        "bridges": placed.bridges,
        "signature": placed.signature,
    }


@asynccontextmanager
async def _alone(database: Database, alias: str) -> AsyncIterator[_Held]:
    name, holder = f"settle:{alias}", f"{os.getpid()}-{ulid()}"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        async with database.write() as session:
            epoch = await take_lease(session, name, holder, LEASE_SECONDS, time.time())
        if epoch is not None:
            break
        if time.monotonic() > deadline:
            raise Unavailable(f"Another process is dividing the prompts of {alias} for long; try again in a moment.")
        await asyncio.sleep(0.2)
    try:
        yield _Held(name, holder, epoch)
    finally:
        async with database.write() as session:
            await release_lease(session, name, holder)
