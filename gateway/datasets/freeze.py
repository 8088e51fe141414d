"""Freezes a data set: Parquet files, a card for programs and one for people, and a checksum of each file.

A row has what trainers read (`prompt`, `chosen`, `rejected` as lists of messages, as TRL takes them), what it is about,
and under `pair` the whole record as JSON.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from gateway.contracts import ids
from gateway.contracts.pair import FeedbackPair
from gateway.contracts.seal import file_sha256
from gateway.datasets.bodies import Body, said
from gateway.datasets.card import card_markdown, summary
from gateway.datasets.collect import Chosen, Collected, collect
from gateway.datasets.report import Card, described
from gateway.datasets.thumbs import LABEL, add_thumbs
from gateway.errors import AlignwayError, InvalidRequest
from gateway.redaction.configured import RedactPair as Redact
from gateway.settings import DatasetSettings
from gateway.storage.database import Database

TRAIN_FILE, HOLDOUT_FILE, CARD_FILE, CARD_PAGE = "train.parquet", "holdout.parquet", "card.json", "card.md"
THUMBS_FILE = "thumbs.parquet"
"""Ratings that are part of no pair: an answer a row, and its thumb. Data sets of files have none."""
ROWS_AT_A_TIME = 2000
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", _MESSAGES),
        ("chosen", _MESSAGES),
        ("rejected", _MESSAGES),
        ("weight", pa.float64()),
        ("basis", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("raters", pa.int64()),
        ("prompt_hash", pa.string()),
        ("cluster", pa.string()),
        ("feedback_ids", pa.list_(pa.string())),
        ("judged_at", pa.timestamp("us", tz="UTC")),
        ("pair", pa.string()),
    ]
)


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
    with PairFile(folder / TRAIN_FILE) as train, PairFile(folder / HOLDOUT_FILE) as holdout:
        parts = {"train": train, "holdout": holdout}

        def keep(body: Body, chosen: Chosen) -> None:
            parts[chosen.side].add(body, chosen)

        collected = await collect(database, alias, settings, redact=redact, sink=keep, now=now)
    with PairFile(folder / THUMBS_FILE, answers=True) as thumbs:
        await add_thumbs(database, collected, settings, redact, thumbs.add)
    return collected


class PairFile:
    """A Parquet file that grows."""

    def __init__(self, path: Path, *, answers: bool = False) -> None:
        """`answers`: only the chosen side of each pair is written, as an answer to learn from."""
        self._answers = answers
        self._writer = ParquetWriter(path, SCHEMA, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []

    def __enter__(self) -> "PairFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, body: Body, chosen: Chosen) -> None:
        """Add a row."""
        self._rows.append(_row(_answer_alone(body) if self._answers else body, body, chosen))
        if len(self._rows) >= ROWS_AT_A_TIME:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * len(SCHEMA)
        arrays = [_array(list(column), field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        self._rows.clear()


def _array(column: list[Any], kind: pa.DataType) -> pa.Array:
    """A column; of messages, from one array of their roles and one of their texts: a tenth of the time."""
    if kind != _MESSAGES:
        return pa.array(column, kind)
    offsets = pa.array(accumulate(map(len, column), initial=0), pa.int32())
    flat = [message for messages in column for message in messages]
    parts = [pa.array([message["role"] for message in flat], pa.string()), pa.array(map(said, flat), pa.string())]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(parts, fields=list(_MESSAGES.value_type)))


def read_pairs(path: Path) -> Iterator[FeedbackPair]:
    """The pairs of a frozen file, in their order."""
    with ParquetFile(path) as table:
        for batch in table.iter_batches(ROWS_AT_A_TIME, columns=["pair"]):
            for text in batch.column(0).to_pylist():
                yield FeedbackPair.model_validate_json(text)


def files_of(folder: Path) -> list[str]:
    """The names of the files that hold the rows of a data set."""
    return [TRAIN_FILE, HOLDOUT_FILE, *([THUMBS_FILE] if (folder / THUMBS_FILE).is_file() else [])]


def read_lineage(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The id of every row of a frozen data set, and of the votes that it stands for."""
    for name in files_of(folder):
        with ParquetFile(folder / name) as table:
            for batch in table.iter_batches(ROWS_AT_A_TIME, columns=["id", "feedback_ids"]):
                yield from zip(*(batch.column(place).to_pylist() for place in range(2)), strict=True)


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


def _row(written: Body, body: Body, chosen: Chosen) -> tuple[Any, ...]:
    """The columns of `SCHEMA`; `written` is the record."""
    return (
        body["id"],
        body["prompt"],
        [body["chosen"]["message"]],
        [body["rejected"]["message"]] if written is body else [],
        body["weight"],
        chosen.basis,
        chosen.source,
        chosen.licence,
        chosen.raters,
        chosen.prompt_hash,
        chosen.cluster,
        [one for one in body["feedback_ids"] if one.startswith(ids.FEEDBACK)],
        round(chosen.judged_at * 1e6),
        msgspec.json.encode(written).decode(),
    )


def _answer_alone(body: Body) -> Body:
    """The record of a row that is an answer to learn from."""
    said_in_turn = [*body["prompt"], body["chosen"]["message"]]
    thumb = {LABEL: body[LABEL]} if LABEL in body else {}
    return {"id": body["id"], "messages": said_in_turn, "weight": body["weight"], "tools": body["tools"]} | thumb


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
