"""From the name a user gives a model to a folder on this machine. Fetches only what it was asked for."""

import re
from pathlib import Path
from typing import Any, Literal

from alignment.base_models.bundled import BUNDLED_MODEL, bundled_model
from alignment.base_models.cache import models_folder
from alignment.base_models.identity import write_origin
from alignment.errors import BaseModelMissing

Hub = Literal["huggingface", "modelscope"]

WHICH_MODEL = (
    f"A folder, a model id of the hub, or {BUNDLED_MODEL} (the small English default). "
    "For Chinese take Qwen/Qwen2.5-1.5B-Instruct, on both hubs: 3.1 GB of bfloat16 weights, so about 6.2 GB of memory "
    "to train or merge it in float32 on a CPU, and what the pairs of one step need."
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


def resolve_model(name: str, hub: Hub = "huggingface") -> Path:
    """The local folder of a model, fetched or converted first if need be.

    Raises `BaseModelMissing`, saying what to do, for a folder without a model, an unknown id or a hub out of reach.
    """
    if name.lower() == BUNDLED_MODEL:
        return bundled_model()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(folder.resolve())
    if not _HUB_ID.fullmatch(name):
        raise BaseModelMissing(
            f"there is no folder {name}, and it is no model id; give an existing folder, an id such as "
            f"Qwen/Qwen2.5-1.5B-Instruct, or {BUNDLED_MODEL}"
        )
    return _checked(_from_huggingface(name) if hub == "huggingface" else _from_modelscope(name))


def _from_huggingface(model_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(model_id, allow_patterns=_WANTED_FILES))
    except GatedRepoError as error:
        raise BaseModelMissing(f"{model_id} wants its terms accepted on its page, and `hf auth login` here") from error
    except RepositoryNotFoundError as error:
        raise BaseModelMissing(
            f"Hugging Face knows no public model {model_id}; check the id, log in with `hf auth login` if it is "
            "private, or try `--hub modelscope`"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise _out_of_reach(model_id, "Hugging Face", "modelscope") from error


def _from_modelscope(model_id: str) -> Path:
    folder = models_folder() / "modelscope" / model_id
    try:
        import modelscope
    except ImportError as error:
        raise BaseModelMissing(
            "fetching from ModelScope needs its package: run `pip install modelscope`, or leave out `--hub modelscope`"
        ) from error
    try:
        _fetch_from_modelscope(modelscope, model_id, folder)
    except Exception as error:  # its own errors share no base class
        raise _out_of_reach(model_id, "ModelScope", "huggingface") from error
    return folder


def _fetch_from_modelscope(modelscope: Any, model_id: str, folder: Path) -> None:
    modelscope.snapshot_download(model_id, local_dir=str(folder), allow_patterns=_WANTED_FILES)
    write_origin(folder, model_id, "modelscope-master")


def _out_of_reach(model_id: str, hub: str, other: Hub) -> BaseModelMissing:
    return BaseModelMissing(
        f"{model_id} is not on this machine and {hub} cannot be reached from it; connect it, try `--hub {other}`, "
        f"copy the model's folder here and give its path, or take {BUNDLED_MODEL}"
    )


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise BaseModelMissing(
            f"{folder} holds no model in Hugging Face format (config.json and safetensors files); "
            "give the folder that holds these files"
        )
    return folder
