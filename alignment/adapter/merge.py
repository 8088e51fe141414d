"""Fold an adapter into full weights, and write them as an engine loads them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open

from alignment.errors import UnfitModel
from alignment.files import make_readable
from alignment.models import load_model

# What a model folder holds besides its weights and what transformers writes anew.
_COPIED_FILES = (
    "generation_config.json",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


def merge_adapter(base_folder: Path, adapter_folder: Path, merged_folder: Path) -> None:
    """Write base plus scaled adapter as a full model: safetensors, tokenizer, chat template, generation settings.

    The sum is formed in the base's own precision, layer by layer, so memory peaks at one copy of the model. For a
    float32 base it is the function that was trained, up to float32 rounding. Every file is readable by all (0644).
    """
    merged_folder.mkdir(parents=True, exist_ok=True)
    merge_into(load_model(base_folder), adapter_folder).save_pretrained(str(merged_folder))
    for name in _COPIED_FILES:
        if (base_folder / name).is_file():
            shutil.copyfile(base_folder / name, merged_folder / name)
    _forget_folder(merged_folder / "config.json")
    make_readable(merged_folder)


def merge_into(model: Any, adapter_folder: Path) -> Any:
    """The model with the adapter's update added to its own weights; the model given is changed."""
    with torch.no_grad():
        return PeftModel.from_pretrained(model, str(adapter_folder)).merge_and_unload(safe_merge=True)


def adapter_rank(adapter_folder: Path) -> int:
    """The adapter's width. Raises `UnfitModel` if the folder holds no readable adapter."""
    try:
        with safe_open(str(adapter_folder / "adapter_model.safetensors"), framework="pt") as tensors:
            if not list(tensors.keys()):
                raise UnfitModel(f"{adapter_folder} holds an adapter without a single matrix")
        return int(json.loads((adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UnfitModel(f"{adapter_folder} holds no LoRA adapter; give the folder of one ({error})") from error


def _forget_folder(config_file: Path) -> None:
    """Old configurations name the folder they were loaded from; a release names no path of one machine."""
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if config.pop("_name_or_path", None) is not None:
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
