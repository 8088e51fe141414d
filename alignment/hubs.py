"""Fetch what a hub calls by an id, or find it in the cache; what goes wrong is told in words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from alignment.errors import AlignmentError

Hub = Literal["huggingface", "modelscope"]
MODELSCOPE_MISSING = (
    "fetching from ModelScope needs its package: run `pip install modelscope`, or leave out `--hub modelscope`"
)
_NOUNS = {"model": "model", "dataset": "data set"}


def from_huggingface(
    name: str,
    kind: Literal["model", "dataset"],
    wanted_files: Sequence[str],
    failure: type[AlignmentError],
    otherwise: str,
) -> Path:
    """The folder of a snapshot with the wanted files.

    Raises `failure`, which says what to do; `otherwise` is what to do where the hub is out of reach.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, repo_type=kind, allow_patterns=list(wanted_files)))
    except GatedRepoError as error:
        raise failure(f"{name} wants its terms accepted on its page, and `hf auth login` here") from error
    except RepositoryNotFoundError as error:
        raise failure(
            f"Hugging Face knows no public {_NOUNS[kind]} {name}; check the id, log in with `hf auth login` if it is "
            "private, or try `--hub modelscope`"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise failure(out_of_reach(name, "Hugging Face", otherwise)) from error


def out_of_reach(name: str, hub: str, otherwise: str) -> str:
    """The words for a hub that does not answer."""
    return f"{name} is not on this machine and {hub} cannot be reached from it; {otherwise}"
