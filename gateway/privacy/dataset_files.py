"""Takes the pairs of some votes out of a frozen data set: a new folder without them, the old one left as it is.

This is all that an erasure knows of how a data set lies on disk.
"""

import json
import os
import shutil
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.contracts.seal import file_sha256

FILES, CARD_FILE = ("train.jsonl", "holdout.jsonl"), "card.json"
SIDES = ("train", "holdout")


def holds_any(folder: Path, feedback_ids: Collection[str]) -> bool:
    """Whether a data set has a pair of one of these votes; False for one whose files are gone."""
    wanted = frozenset(feedback_ids)
    return any(
        not wanted.isdisjoint(json.loads(line)["feedback_ids"])
        for name in FILES
        if (folder / name).is_file()
        for line in (folder / name).open(encoding="utf-8")
    )


def rewrite_without(folder: Path, feedback_ids: Collection[str], new_folder: Path) -> dict[str, Any] | None:
    """Write the data set anew as `new_folder`, whole or not at all, and return its card; None: no pair was left.

    Whatever lay in `new_folder` is replaced, so this can be done again.
    """
    unfinished = new_folder.with_name(f".{new_folder.name}.part")
    for left_over in (unfinished, new_folder):
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished.mkdir(parents=True)
    left = [_copy_without(folder / name, unfinished / name, frozenset(feedback_ids)) for name in FILES]
    if not any(left):
        shutil.rmtree(unfinished)
        return None
    card = _card(json.loads((folder / CARD_FILE).read_text(encoding="utf-8")), new_folder.name, left, unfinished)
    _write(unfinished / CARD_FILE, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    unfinished.rename(new_folder)
    _flush_folder(new_folder.parent)
    return card


def remove(folder: Path) -> None:
    """Delete the files of a data set; one that is gone stays gone."""
    if folder.is_dir():
        shutil.rmtree(folder)


def _copy_without(source: Path, target: Path, feedback_ids: frozenset[str]) -> int:
    with source.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as kept:
        count = 0
        for line in lines:
            if feedback_ids.isdisjoint(json.loads(line)["feedback_ids"]):
                kept.write(line)
                count += 1
        kept.flush()
        os.fsync(kept.fileno())
    return count


def _card(old: dict[str, Any], new_id: str, left: list[int], folder: Path) -> dict[str, Any]:
    """What can be said of the new data set: its counts and digests; the figures of the old one are not its own."""
    named = ("schema_version", "alias")
    card = {name: old[name] for name in named if name in old} | {"id": new_id, "created_at": _now()}
    card |= {side: {"pairs": count} for side, count in zip(SIDES, left, strict=True)}
    digests = {name: file_sha256(folder / name) for name in FILES}
    return card | {"pairs": sum(left), "sha256": digests, "without_erased_from": old.get("id")}


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
