"""From the name a user gives a data set to a file or folder on this machine. Fetches only what it was asked for."""

import re
from pathlib import Path
from typing import Literal

from alignment.errors import BadPairs
from alignment.pairs.freeze import CARD_FILE, HOLDOUT_FILE
from alignment.pairs.table import SUFFIXES

Hub = Literal["huggingface", "modelscope"]
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
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
    return _from_huggingface(name) if hub == "huggingface" else _from_modelscope(name)


def holdout_of(dataset: Path) -> Path | None:
    """The part that a frozen data set holds out; None for any other."""
    return dataset / HOLDOUT_FILE if (dataset / CARD_FILE).is_file() else None


def _from_huggingface(dataset_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(dataset_id, repo_type="dataset", allow_patterns=_WANTED_FILES))
    except GatedRepoError as error:
        raise BadPairs(f"{dataset_id} wants its terms accepted on its page, and `hf auth login` here") from error
    except RepositoryNotFoundError as error:
        raise BadPairs(
            f"Hugging Face knows no public data set {dataset_id}; check the id, log in with `hf auth login` if it is "
            "private, or try `--hub modelscope`"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BadPairs(_out_of_reach(dataset_id, "Hugging Face")) from error


def _from_modelscope(dataset_id: str) -> Path:
    try:
        from modelscope import dataset_snapshot_download
    except ImportError as error:
        raise BadPairs(
            "fetching from ModelScope needs its package: run `pip install modelscope`, or leave out `--hub modelscope`"
        ) from error
    try:
        return Path(dataset_snapshot_download(dataset_id, allow_patterns=_WANTED_FILES))
    except Exception as error:  # its own errors share no base class
        raise BadPairs(_out_of_reach(dataset_id, "ModelScope")) from error


def _out_of_reach(dataset_id: str, hub: str) -> str:
    return (
        f"{dataset_id} is not on this machine and {hub} cannot be reached from it; connect it, or copy the data set's "
        "files here and give their folder"
    )
