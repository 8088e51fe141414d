"""Freezes a data set: Parquet files, a card for programs and one for people, and a checksum of each file."""

import asyncio
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.contracts.seal import file_sha256
from gateway.datasets.bodies import Body
from gateway.datasets.card import card_markdown, summary
from gateway.datasets.collect import Chosen, Collected, collect
from gateway.datasets.report import Card, described
from gateway.datasets.thumbs import add_thumbs
from gateway.errors import AlignwayError, InvalidRequest
from gateway.redaction.configured import RedactPair as Redact
from gateway.settings import DatasetSettings
from gateway.storage.database import Database

if TYPE_CHECKING:
    from gateway.datasets.pair_file import PairFile

TRAIN_FILE, HOLDOUT_FILE, CARD_FILE, CARD_PAGE = "train.parquet", "holdout.parquet", "card.json", "card.md"
THUMBS_FILE = "thumbs.parquet"
"""Ratings that are part of no pair: an answer a row, and its thumb. Data sets of files have none."""


class DatasetDamaged(AlignwayError):
    """A frozen data set that is not what was written."""

    code = "dataset_damaged"


async def freeze(
    database: Database,
    folder: Path,
    alias: str,
    settings: DatasetSettings,
    *,
    redact: Redact | None = None,
    extra: Card | None = None,
    now: float | None = None,
    keep_empty: bool = True,
) -> Card:
    """Write the data set `folder.name` whole or not at all, and return its card. Whatever lay there is replaced.

    `extra`: further figures for the card, such as agreement. Raises as `collect`, and `InvalidRequest` for a data set
    without a pair unless `keep_empty`.
    """
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        collected = await _write(unfinished, database, alias, settings, redact, now)
    except BaseException:  # what was written holds people's words
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if not (collected.chosen or (collected.thumbs or {}).get("answers")) and not keep_empty:
        card = _card(unfinished, folder.name, collected)
        shutil.rmtree(unfinished)
        raise InvalidRequest(f"There is nothing to freeze: {summary(card)}.", code="empty_dataset")
    return await asyncio.to_thread(sealed, unfinished, folder, collected, settings, extra)


def sealed(
    unfinished: Path, folder: Path, collected: Collected, settings: DatasetSettings, extra: Card | None = None
) -> Card:
    """Write the card beside the two files of pairs in `unfinished`, and put all of it in place as `folder`."""
    card = _card(unfinished, folder.name, collected) | (extra or {}) | {"settings": settings.model_dump(mode="json")}
    (unfinished / CARD_FILE).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (unfinished / CARD_PAGE).write_text(card_markdown(card), encoding="utf-8")
    put_in_place(unfinished, folder)
    return card


async def _write(
    folder: Path, database: Database, alias: str, settings: DatasetSettings, redact: Redact | None, now: float | None
) -> Collected:
    pair_file = await asyncio.to_thread(_pair_file)
    with pair_file(folder / TRAIN_FILE) as train, pair_file(folder / HOLDOUT_FILE) as holdout:
        parts = {"train": train, "holdout": holdout}

        def keep(body: Body, chosen: Chosen) -> None:
            parts[chosen.side].add(body, chosen)

        collected = await collect(database, alias, settings, redact=redact, sink=keep, now=now)
    with pair_file(folder / THUMBS_FILE, answers=True) as thumbs:
        await add_thumbs(database, collected, settings, redact, thumbs.add)
    return collected


def _pair_file() -> "type[PairFile]":
    """In a thread: loading it takes longer than a gateway's streams should stand still."""
    from gateway.datasets.pair_file import PairFile

    return PairFile


def files_of(folder: Path) -> list[str]:
    """The names of the files that hold the rows of a data set."""
    return [TRAIN_FILE, HOLDOUT_FILE, *([THUMBS_FILE] if (folder / THUMBS_FILE).is_file() else [])]


def read_card(folder: Path) -> Card:
    """The card of a frozen data set. Raises `DatasetDamaged` if a file is not what was frozen."""
    try:
        card: Card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        damaged = [name for name, digest in card["sha256"].items() if file_sha256(folder / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        text = f"the data set {folder} cannot be read ({error}); restore it, or build a new one"
        raise DatasetDamaged(text) from error
    if damaged:
        raise DatasetDamaged(f"{folder / damaged[0]} is not what was frozen; restore it, or build a new data set")
    return card


def _card(folder: Path, dataset_id: str, collected: Collected) -> Card:
    made = datetime.fromtimestamp(collected.at, UTC).isoformat()
    checksums = {name: file_sha256(folder / name) for name in files_of(folder)}
    return {"schema_version": 2, "id": dataset_id, "created_at": made} | described(collected) | {"sha256": checksums}


def put_in_place(unfinished: Path, folder: Path) -> None:
    """Give a finished folder its name, once all of it is on disk."""
    for file in unfinished.iterdir():
        file.chmod(0o644)
        _flush(file)
    _flush(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
