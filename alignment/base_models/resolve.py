"""From the name a user gives a model to a folder on this machine. Fetches only what it was asked for."""

import re
from pathlib import Path
from typing import Any

from alignment.base_models.bundled import BUNDLED_MODEL, bundled_model
from alignment.base_models.cache import models_folder
from alignment.base_models.identity import write_origin
from alignment.errors import BaseModelMissing
from alignment.hubs import MODELSCOPE_MISSING, Hub, from_huggingface, out_of_reach

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
    return from_huggingface(model_id, "model", _WANTED_FILES, BaseModelMissing, _otherwise("modelscope"))


def _from_modelscope(model_id: str) -> Path:
    folder = models_folder() / "modelscope" / model_id
    try:
        import modelscope
    except ImportError as error:
        raise BaseModelMissing(MODELSCOPE_MISSING) from error
    try:
        _fetch_from_modelscope(modelscope, model_id, folder)
    except Exception as error:  # its own errors share no base class
        raise BaseModelMissing(out_of_reach(model_id, "ModelScope", _otherwise("huggingface"))) from error
    return folder


def _fetch_from_modelscope(modelscope: Any, model_id: str, folder: Path) -> None:
    modelscope.snapshot_download(model_id, local_dir=str(folder), allow_patterns=_WANTED_FILES)
    write_origin(folder, model_id, "modelscope-master")


def _otherwise(other: Hub) -> str:
    return f"connect it, try `--hub {other}`, copy the model's folder here and give its path, or take {BUNDLED_MODEL}"


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise BaseModelMissing(
            f"{folder} holds no model in Hugging Face format (config.json and safetensors files); "
            "give the folder that holds these files"
        )
    return folder
