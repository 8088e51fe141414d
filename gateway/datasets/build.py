"""Builds a data set, or says what one would hold; and tells what has changed since one was frozen."""

import asyncio
import time
from pathlib import Path
from typing import Any

from gateway.contracts import ids
from gateway.contracts.training import MINIMUM_PAIRS_BY_HAND
from gateway.datasets.collect import collect
from gateway.datasets.freeze import DatasetDamaged, freeze, read_card
from gateway.datasets.report import Card, described
from gateway.datasets.thumbs import add_thumbs
from gateway.errors import InvalidRequest, NotFound
from gateway.redaction.configured import RedactPair as Redact
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.datasets import find_dataset, record_dataset, taken_back
from gateway.storage.feedback import trainable_aliases

FOLDER = "datasets"
"""Of data sets, in the release store."""


class DatasetNotFound(NotFound):
    """No data set has this id."""

    code, param = "dataset_not_found", "dataset_id"


async def alias_to_build(database: Database, wanted: str | None) -> str:
    """The alias of that name, or the only one. Raises `InvalidRequest`, naming what there is."""
    async with database.read() as session:
        names = await trainable_aliases(session)
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted in names:
        return str(wanted)
    told = f"The aliases are: {', '.join(names)}." if names else "There is none; start Alignway once."
    raise InvalidRequest(f"Name an alias that can be trained. {told}", param="alias", code="unknown_alias")


async def preview(database: Database, alias: str, settings: DatasetSettings, redact: Redact | None = None) -> Card:
    """What a data set frozen now would hold, what each rule drops, and what its holdout could show."""
    collected = await collect(database, alias, settings, redact=redact)
    await add_thumbs(database, collected, settings, redact)
    card = await asyncio.to_thread(described, collected)
    return {"object": "dataset.dry_run", "would_start": card["pairs"] >= MINIMUM_PAIRS_BY_HAND} | card


async def build(
    database: Database,
    store: Path,
    alias: str,
    settings: DatasetSettings,
    redact: Redact | None = None,
    extra: Card | None = None,
) -> Card:
    """Freeze a data set now, under a new id; `extra` stands in its card, too, such as how far raters agree.

    Raises `InvalidRequest` if it would hold nothing.
    """
    dataset_id, now = ids.mint(ids.DATASET), time.time()
    folder = store / FOLDER / dataset_id
    card = await freeze(database, folder, alias, settings, redact=redact, extra=extra, now=now, keep_empty=False)
    async with database.write() as session:
        location = f"{FOLDER}/{dataset_id}"
        await record_dataset(session, dataset_id, alias=alias, location=location, card=card, now=now)
    return card


async def show(database: Database, store: Path, dataset_id: str) -> Card:
    """The card of a data set, how many of its votes were taken back or changed since, and whether its files are still
    what was frozen: `damaged` says what is wrong with them, None if nothing is. Raises `DatasetNotFound`."""
    async with database.read() as session:
        row = await find_dataset(session, dataset_id)
    if row is None:
        raise DatasetNotFound(f"There is no data set {dataset_id!r}. `alignway dataset list` shows what there is.")
    card: dict[str, Any] = dict(row.card)
    folder = store / row.location
    card["damaged"] = await asyncio.to_thread(_damage, folder) if row.removed_at is None else None
    if card["damaged"] is None and folder.is_dir():
        votes = await asyncio.to_thread(_votes_of, folder)
        async with database.read() as session:
            card["retracted_since"] = await taken_back(session, sorted(votes), row.created_at)
    return card


def _votes_of(folder: Path) -> set[str]:
    from gateway.datasets.pair_file import read_lineage

    return {vote for _, votes in read_lineage(folder) for vote in votes}


def _damage(folder: Path) -> str | None:
    try:
        read_card(folder)
    except DatasetDamaged as error:
        return error.message
    return None
