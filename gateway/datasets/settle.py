"""Settles the sides of new prompts: reads them, places them, writes where they lie. One at a time for an alias."""

import asyncio
import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import ulid
from gateway.contracts.message import Message
from gateway.datasets.shingles import prompt_text
from gateway.datasets.sides import Newcomers, Placed
from gateway.datasets.split import SplitSide, holdout_share, split_side
from gateway.errors import Unavailable
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.datasets import bodies_of, pair_of_prompt, settle_prompts, unsettled_prompts
from gateway.storage.keys import ensure_root_secret
from gateway.storage.leases import check_lease, release_lease, take_lease
from gateway.storage.pairs import SIGNATURE, count_sides, sides_of

BATCH = 20_000
"""Prompts that are placed at once."""
LEASE_SECONDS = 120.0
PATIENCE_SECONDS = 300.0


class _Prompt(msgspec.Struct):
    """What is read of a pair: its prompt."""

    prompt: list[dict[str, Any]]


class _Held(NamedTuple):
    name: str
    holder: str
    epoch: int


async def settle(database: Database, alias: str, settings: DatasetSettings) -> int:
    """Settle every prompt of the alias that has an eligible pair and no side; returns how many there were.

    Raises `Unavailable` if somebody else is at it for too long.
    """
    async with database.read() as session:
        if not await unsettled_prompts(session, alias):
            return 0
    async with _alone(database, alias) as lease:
        work = await _begin(database, alias, settings)
        for begin in range(0, len(work.wanted), BATCH):
            await _settle_some(database, work, work.wanted[begin : begin + BATCH], lease)
    return len(work.settled) - work.known


@dataclass
class _Work:
    """What is read once: nobody else settles prompts of the alias meanwhile."""

    alias: str
    wanted: list[tuple[str, str]]
    """Prompts without a side, and a pair of each."""
    settled: list[Placed]
    known: int
    """How many were settled before."""
    first_number: int
    draw: Callable[[str], SplitSide]


async def _begin(database: Database, alias: str, settings: DatasetSettings) -> _Work:
    async with database.write() as session:
        key = await split_key(session)
    async with database.read() as session:
        known = await sides_of(session, alias, SIGNATURE)
        held_out = [(await count_sides(session, alias)).get("holdout", 0)]
        return _Work(
            alias=alias,
            wanted=await unsettled_prompts(session, alias),
            settled=placed_of(known),
            known=len(known),
            first_number=known[-1].number + 1 if known else 0,
            draw=partial(draw, key, alias, settings, held_out),
        )


async def _settle_some(database: Database, work: _Work, wanted: Sequence[tuple[str, str]], lease: _Held) -> None:
    async with database.write() as session:
        await take_lease(session, lease.name, lease.holder, LEASE_SECONDS, time.time())
    async with database.read() as session:
        texts = await bodies_of(session, [pair_id for _, pair_id in wanted])
        # One that was erased meanwhile waits for the next time, if its prompt has other pairs.
        new = [(prompt_hash, _text_of(texts.pop(pair_id))) for prompt_hash, pair_id in wanted if pair_id in texts]
        newcomers = await asyncio.to_thread(Newcomers, work.settled, new)
        near = await texts_of_prompts(session, work.alias, newcomers.resembled())
    placed = await asyncio.to_thread(newcomers.place, near, work.draw)
    first = work.first_number + len(work.settled) - work.known
    rows = [_row(work.alias, first + number, one) for number, one in enumerate(placed)]
    async with database.write() as session:
        await check_lease(session, lease.name, lease.holder, lease.epoch)
        await settle_prompts(session, rows)
    work.settled += placed


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


async def texts_of_prompts(session: AsyncSession, alias: str, hashes: Iterable[str]) -> dict[str, str]:
    """What settled prompts say, as far as a pair still has their text."""
    found = {prompt_hash: await pair_of_prompt(session, alias, prompt_hash) for prompt_hash in sorted(hashes)}
    return {prompt_hash: _text_of(body) for prompt_hash, body in found.items() if body is not None}


async def split_key(session: AsyncSession) -> bytes:
    """The key without which nobody can tell on which side a prompt will lie."""
    return hmac.digest((await ensure_root_secret(session)).encode(), b"holdout", hashlib.sha256)


def placed_of(rows: Iterable[Any]) -> list[Placed]:
    """Settled prompts (`sides_of`, with signatures) as the rules take them."""
    return [Placed(row.prompt_hash, _side(row.side), row.cluster, row.bridges, row.signature) for row in rows]


def _text_of(body: str) -> str:
    return prompt_text([Message.model_validate(one) for one in msgspec.json.decode(body, type=_Prompt).prompt])


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
