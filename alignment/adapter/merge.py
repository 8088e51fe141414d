"""Fold an adapter into full weights, write them as an engine loads them, and check that they say the same."""

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from alignment.adapter.agreement import MergeCheck
from alignment.adapter.exactness import Expected, compare, expect
from alignment.errors import MergeNotExact, UnfitModel
from alignment.files import fresh_folder, make_readable, rename_into_place
from alignment.models import load_adapted, load_tokenizer
from alignment.side_files import copy_side_files, forget_folder


def merge_adapter(base_folder: Path, adapter_folder: Path, merged_folder: Path) -> MergeCheck:
    """Write base plus scaled adapter as a full model: safetensors, tokenizer, chat template, generation settings.

    The sum is formed in the base's own precision, layer by layer, so memory peaks at one copy of the model. For a
    float32 base it is the function that was trained, up to float32 rounding. Every file is readable by all (0644).
    The folder gets its name when the model in it, loaded anew, gives the logits of base plus adapter. Otherwise it is
    removed and `MergeNotExact` raised.
    """
    merged_folder = merged_folder.resolve()
    unfinished = fresh_folder(merged_folder.with_name(f".{merged_folder.name}.unfinished"))
    try:
        check = compare(_write_merged(base_folder, adapter_folder, unfinished), unfinished)
        if not check.passed:
            raise MergeNotExact(_explain(check))
        rename_into_place(unfinished, merged_folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return check


def adapter_rank(adapter_folder: Path) -> int:
    """The adapter's width. Raises `UnfitModel` if the folder holds no readable adapter."""
    try:
        with safe_open(str(adapter_folder / "adapter_model.safetensors"), framework="pt") as tensors:
            if not list(tensors.keys()):
                raise UnfitModel(f"{adapter_folder} holds an adapter without a single matrix")
        return int(json.loads((adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UnfitModel(f"{adapter_folder} holds no LoRA adapter; give the folder of one ({error})") from error


def _write_merged(base_folder: Path, adapter_folder: Path, folder: Path) -> Expected:
    """Write the folder; its model leaves memory before the merged one is loaded to be compared."""
    adapted = load_adapted(base_folder, adapter_folder)
    expected = expect(adapted, load_tokenizer(base_folder))
    try:
        with torch.no_grad():
            adapted.merge_and_unload(safe_merge=True).save_pretrained(str(folder))
    except ValueError as error:  # safe_merge found something that is not a number
        raise UnfitModel(f"{adapter_folder} cannot be merged: {error}") from error
    copy_side_files(base_folder, folder)
    forget_folder(folder / "config.json")
    make_readable(folder)
    return expected


def _explain(check: MergeCheck) -> str:
    return (
        f"the merged model does not say what base plus adapter say: its logits differ by up to "
        f"{check.max_absolute_difference:.3g} ({check.max_relative_difference:.2g} of the largest; {check.tolerance:g} "
        f"is allowed in {check.dtype}), and {check.greedy_agreement_share:.0%} of the next tokens agree. Nothing was "
        "kept. See that the adapter was trained on this very base, that the disk is sound, and merge again"
    )
