"""From the name a user gives a data set to a file or folder on this machine. Fetches only what it was asked for."""

import re
from pathlib import Path

from alignment.errors import BadPairs
from alignment.hubs import MODELSCOPE_MISSING, Hub, from_huggingface, out_of_reach
from alignment.pairs.table import SUFFIXES
from gateway.datasets.freeze import CARD_FILE, HOLDOUT_FILE

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_OTHERWISE = "connect it, or copy the data set's files here and give their folder"
_WANTED_FILES = [f"*{suffix}" for suffix in SUFFIXES]


def resolve_dataset(name: str, hub: Hub = "huggingface") -> Path:
    """The local file or folder of a data set, fetched first if it is an id of a hub. Raises `BadPairs`."""
    path = Path(name).expanduser()
    if path.exists():
        return path.resolve()
    if not _HUB_ID.fullmatch(name) or path.suffix in SUFFIXES:
        raise BadPairs(
            f"there is no file {name}, and it is no data set of a hub; give a JSON Lines or Parquet file, the folder "
            "of a frozen data set (ds_...), or an id such as owner/name"
        )
    if hub == "huggingface":
        return from_huggingface(name, "dataset", _WANTED_FILES, BadPairs, _OTHERWISE)
    return _from_modelscope(name)


def holdout_of(dataset: Path) -> Path | None:
    """The part that a frozen data set holds out; None for any other."""
    return dataset / HOLDOUT_FILE if (dataset / CARD_FILE).is_file() else None


def _from_modelscope(dataset_id: str) -> Path:
    try:
        from modelscope import dataset_snapshot_download
    except ImportError as error:
        raise BadPairs(MODELSCOPE_MISSING) from error
    try:
        return Path(dataset_snapshot_download(dataset_id, allow_patterns=_WANTED_FILES))
    except Exception as error:  # its own errors share no base class
        raise BadPairs(out_of_reach(dataset_id, "ModelScope", _OTHERWISE)) from error
