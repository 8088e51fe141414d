"""The Parquet files of a frozen data set, written and read; the one place that needs pyarrow as it is loaded.

A row has what trainers read (`prompt`, `chosen`, `rejected` as lists of messages, as TRL takes them), what it is about,
and under `pair` the whole record as JSON. A gateway worker imports this only once it is to read or write such a file:
pyarrow takes 50 MB.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from gateway.contracts import ids
from gateway.contracts.pair import FeedbackPair
from gateway.datasets.bodies import Body, said
from gateway.datasets.collect import Chosen
from gateway.datasets.freeze import files_of
from gateway.datasets.thumbs import LABEL

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


class PairFile:
    """A Parquet file that grows. What was added is compressed in a thread, which needs no lock of Python's for it."""

    def __init__(self, path: Path, *, answers: bool = False) -> None:
        """`answers`: only the chosen side of each pair is written, as an answer to learn from."""
        self._answers = answers
        self._writer = ParquetWriter(path, SCHEMA, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
        self._thread = ThreadPoolExecutor(1, "parquet")
        self._written: Future[None] | None = None

    def __enter__(self) -> "PairFile":
        return self

    def __exit__(self, *_: object) -> None:
        with self._writer, self._thread:
            self._flush()
            self._wait()

    def add(self, body: Body, chosen: Chosen) -> None:
        """Add a row."""
        self._rows.append(_row(_answer_alone(body) if self._answers else body, body, chosen))
        if len(self._rows) >= ROWS_AT_A_TIME:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * len(SCHEMA)
        arrays = [_array(list(column), field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._rows.clear()
        self._wait()
        self._written = self._thread.submit(self._writer.write_table, pa.Table.from_arrays(arrays, schema=SCHEMA))

    def _wait(self) -> None:
        """For the table before: no more than one lies in memory."""
        if self._written is not None:
            self._written.result()


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


def read_lineage(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The id of every row of a frozen data set, and of the votes that it stands for."""
    for name in files_of(folder):
        with ParquetFile(folder / name) as table:
            for batch in table.iter_batches(ROWS_AT_A_TIME, columns=["id", "feedback_ids"]):
                yield from zip(*(batch.column(place).to_pylist() for place in range(2)), strict=True)


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
        msgspec.json.encode(written),
    )


def _answer_alone(body: Body) -> Body:
    """The record of a row that is an answer to learn from."""
    said_in_turn = [*body["prompt"], body["chosen"]["message"]]
    thumb = {LABEL: body[LABEL]} if LABEL in body else {}
    return {"id": body["id"], "messages": said_in_turn, "weight": body["weight"], "tools": body["tools"]} | thumb
