"""Freeze pairs into a data set: two files, a card that says what is in them, and a checksum of each file."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from alignment.errors import BadPairs
from alignment.files import flush_tree, fresh_folder, make_readable, rename_into_place
from gateway.contracts.pair import FeedbackPair
from gateway.contracts.seal import file_sha256

TRAIN_FILE, HOLDOUT_FILE, CARD_FILE = "train.jsonl", "holdout.jsonl", "card.json"

Card = dict[str, Any]


def freeze(
    folder: Path, alias: str, train: Sequence[FeedbackPair], holdout: Sequence[FeedbackPair], at: datetime
) -> Card:
    """Write the data set `folder.name` whole or not at all, and return its card. Whatever lay there is replaced."""
    unfinished = fresh_folder(folder.with_name(f".{folder.name}.part"))
    for name, pairs in ((TRAIN_FILE, train), (HOLDOUT_FILE, holdout)):
        lines = "".join(pair.model_dump_json(exclude_none=True) + "\n" for pair in pairs)
        (unfinished / name).write_text(lines, encoding="utf-8")
    card: Card = {
        "schema_version": 1,
        "id": folder.name,
        "alias": alias,
        "created_at": at.isoformat(),
        "pairs": len(train) + len(holdout),
        "train": _described(train),
        "holdout": _described(holdout),
        "sha256": {name: file_sha256(unfinished / name) for name in (TRAIN_FILE, HOLDOUT_FILE)},
    }
    (unfinished / CARD_FILE).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    make_readable(unfinished)
    flush_tree(unfinished)
    if folder.exists():
        fresh_folder(folder).rmdir()
    rename_into_place(unfinished, folder)
    return card


def read_card(folder: Path) -> Card:
    """The card of a frozen data set. Raises `BadPairs` if a file is not what was frozen."""
    try:
        card: Card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        damaged = [name for name, digest in card["sha256"].items() if file_sha256(folder / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        raise BadPairs(f"the data set {folder} cannot be read ({error}); restore it, or start a new run") from error
    if damaged:
        raise BadPairs(f"{folder / damaged[0]} is not what was frozen; restore it, or start a new run")
    return card


def _described(pairs: Sequence[FeedbackPair]) -> Card:
    """Counts, and the figures that show a bias: who judged, who wrote the chosen side, how long the sides are."""
    described: Card = {
        "pairs": len(pairs),
        "prompts": len({pair.prompt_hash for pair in pairs}),
        "raters": len({pair.rater.id_hash for pair in pairs}),
        "rater_kinds": dict(Counter(pair.rater.kind for pair in pairs)),
        "chosen_origins": dict(Counter(pair.chosen.origin for pair in pairs)),
        "rejected_origins": dict(Counter(pair.rejected.origin for pair in pairs)),
        "weight_sum": sum(pair.weight for pair in pairs),
    }
    if pairs:
        described["median_characters"] = {
            "chosen": median(len(pair.chosen.message.text) for pair in pairs),
            "rejected": median(len(pair.rejected.message.text) for pair in pairs),
        }
        described["judged"] = [f(pair.judged_at for pair in pairs).isoformat() for f in (min, max)]
    return described
