"""Where prompts lie that are not settled and shall not be, beside those of an alias that are."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from gateway.datasets.plan import Lying
from gateway.datasets.settle import SHINGLES, beside_settled, draw, learn_all, split_key
from gateway.datasets.sides import Newcomers
from gateway.datasets.split import SplitSide
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.pairs import sides_of


async def lying_beside(
    database: Database, alias: str, settings: DatasetSettings, new: Mapping[str, str], held_out: int
) -> dict[str, Lying]:
    """As the alias's own do: near-duplicates of settled ones on their side, others by the same keyed draw.

    new        hash and text of each prompt
    held_out   so many pairs are held out already
    """
    newcomers, lying = await beside_settled(database, alias), dict[str, Lying]()
    async with database.read() as session:
        async for rows in sides_of(session, alias):
            lying |= {row.prompt_hash: Lying(*row[1:]) for row in rows if row.prompt_hash in new}
    async with database.write() as session:
        key = await split_key(session)
    others = {prompt_hash: text for prompt_hash, text in new.items() if prompt_hash not in lying}
    return lying | await place_all(database, alias, newcomers, others, partial(draw, key, alias, settings, [held_out]))


async def place_all(
    database: Database, alias: str, newcomers: Newcomers, new: Mapping[str, str], draw_: Callable[[str], SplitSide]
) -> dict[str, Lying]:
    """Where each of them lies; `draw_`: the side of one that resembles none."""
    coming, lying = deque(new.items()), dict[str, Lying]()
    while coming:
        await asyncio.to_thread(newcomers.take, _until_full(newcomers, coming))
        await learn_all(database, alias, newcomers, new)
        for placed in await asyncio.to_thread(lambda: list(newcomers.place(draw_))):
            lying[placed.prompt_hash] = Lying(placed.side, placed.cluster, placed.bridges)
    return lying


def _until_full(newcomers: Newcomers, coming: deque[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    while coming and newcomers.count_shingles < SHINGLES:
        yield coming.popleft()
