"""Takes the rows of some votes out of a frozen data set: a new folder without them, the old one left as it is.

This is all that an erasure knows of how a data set lies on disk.
"""

import json
import shutil
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.contracts.seal import file_sha256
from gateway.datasets.card import card_markdown
from gateway.datasets.freeze import (
    CARD_FILE,
    CARD_PAGE,
    HOLDOUT_FILE,
    THUMBS_FILE,
    TRAIN_FILE,
    files_of,
    put_in_place,
)

SIDES = {"train": TRAIN_FILE, "holdout": HOLDOUT_FILE}


def holds_any(folder: Path, feedback_ids: Collection[str]) -> bool:
    """Whether a data set has a pair of one of these votes; False for one whose files are gone."""
    wanted = frozenset(feedback_ids)
    if not (folder / CARD_FILE).is_file():
        return False
    from gateway.datasets.pair_file import read_lineage

    return any(not wanted.isdisjoint(votes) for _, votes in read_lineage(folder))


def rewrite_without(folder: Path, feedback_ids: Collection[str], new_folder: Path) -> dict[str, Any] | None:
    """Write the data set anew as `new_folder`, whole or not at all, and return its card; None: no row was left.

    Whatever lay in `new_folder` is replaced, so this can be done again.
    """
    unfinished = new_folder.with_name(f".{new_folder.name}.part")
    for left_over in (unfinished, new_folder):
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished.mkdir(parents=True)
    erased = frozenset(feedback_ids)
    left = {name: _copy_without(folder / name, unfinished / name, erased) for name in files_of(folder)}
    if not any(left.values()):
        shutil.rmtree(unfinished)
        return None
    card = _card(json.loads((folder / CARD_FILE).read_text(encoding="utf-8")), new_folder.name, left, unfinished)
    (unfinished / CARD_FILE).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (unfinished / CARD_PAGE).write_text(card_markdown(card), encoding="utf-8")
    put_in_place(unfinished, new_folder)
    return card


def remove(folder: Path) -> None:
    """Delete the files of a data set; one that is gone stays gone."""
    if folder.is_dir():
        shutil.rmtree(folder)


def _copy_without(source: Path, target: Path, feedback_ids: frozenset[str]) -> int:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile, ParquetWriter

    from gateway.datasets.pair_file import ROWS_AT_A_TIME, SCHEMA

    count = 0
    with ParquetFile(source) as table, ParquetWriter(target, SCHEMA, compression="zstd") as writer:
        for batch in table.iter_batches(ROWS_AT_A_TIME):
            votes = batch.column(batch.schema.get_field_index("feedback_ids")).to_pylist()
            kept = batch.filter(pa.array([feedback_ids.isdisjoint(one) for one in votes], pa.bool_()))
            count += kept.num_rows
            writer.write_table(pa.Table.from_batches([kept], schema=SCHEMA))
    return count


def _card(old: dict[str, Any], new_id: str, left: dict[str, int], folder: Path) -> dict[str, Any]:
    """What can be said of the new data set: its counts and digests; the figures of the old one are not its own.

    left   how many rows each file has
    """
    pairs = sum(left[file] for file in SIDES.values())
    counts = {"candidates": old["pairs"], "excluded": {}, "dropped": {"erased": old["pairs"] - pairs}, "pairs": pairs}
    thumbs = {"thumbs": {"answers": left[THUMBS_FILE]}} if THUMBS_FILE in left else {}
    return {
        "schema_version": old["schema_version"],
        "id": new_id,
        "created_at": datetime.now(UTC).isoformat(),
        "alias": old["alias"],
        "pairs": pairs,
        "counts": counts,
        **{side: {"pairs": left[file]} for side, file in SIDES.items()},
        **thumbs,
        "sources": old["sources"],
        "bias": {"length": {}, "style": {}, "position": {}},
        "alarms": {"phrases": [], "bursts": {}, "one_rater_clusters": {}},
        "warnings": [f"made from {old['id']} when somebody was erased; its other figures were not taken anew"],
        "blocks_automatic_training": old["blocks_automatic_training"],
        "redacted": {},
        "without_erased_from": old["id"],
        "settings": old["settings"],
        "sha256": {name: file_sha256(folder / name) for name in left},
    }
