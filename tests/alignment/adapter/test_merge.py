"""Merged weights are the adapted model: in their logits, in their greedy text, and as a folder an engine can load."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignment.adapter import merge
from alignment.adapter.attach import attach_adapter, save_adapter
from alignment.adapter.merge import adapter_rank, merge_adapter
from alignment.errors import MergeNotExact, UnfitModel
from alignment.models import load_adapted, load_model, load_tokenizer
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

BASE = BaseModelRef(model="owner/model", revision="r1", weights_sha256="0")
PROMPTS = [
    "Why is the sky blue?",
    "Name three birds that live near the sea.",
    "Write one line about a river in winter.",
    "What is 12 times 12?",
    "How do I keep bread fresh?",
    "Suggest a name for a small boat.",
]


def random_adapter(model_folder: Path, folder: Path, scale: float, **options: Any) -> Path:
    """An adapter that is not the identity: every B matrix random, and every magnitude that DoRA learns moved."""
    torch.manual_seed(3)
    adapted = attach_adapter(load_model(model_folder), BASE, TrainingOptions(rank=8, alpha=16, **options))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=scale)
        elif "magnitude" in name:
            parameter.data.mul_(1 + torch.rand_like(parameter))
    save_adapter(adapted, BASE, folder)
    return folder


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}], ids=["lora", "rslora", "dora"])
def test_merged_logits_equal_the_adapters(tiny_model: Path, tmp_path: Path, options: dict[str, bool]) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", 0.2, **options)
    merge_adapter(tiny_model, adapter, tmp_path / "merged")
    ids = torch.arange(2, 60)[None]
    base, adapted, merged = (
        model(ids).logits
        for model in (load_model(tiny_model), load_adapted(tiny_model, adapter), load_model(tmp_path / "merged"))
    )
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
    assert (adapted - base).abs().max() > 0.05


def test_merged_weights_are_base_plus_scaled_product(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", scale=0.2)
    merge_adapter(tiny_model, adapter, tmp_path / "merged")
    base, merged = (load_file(folder / "model.safetensors") for folder in (tiny_model, tmp_path / "merged"))
    matrices = load_file(adapter / "adapter_model.safetensors")
    assert merged.keys() == base.keys()
    for name, before in base.items():
        a, b = (matrices.get(f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight") for part in "AB")
        expected = before if a is None or b is None else before + 16 / 8 * (b @ a)
        torch.testing.assert_close(merged[name], expected, rtol=1e-6, atol=1e-7)
    assert len(matrices) == 2 * 2 * 7  # A and B of the seven linear layers of both blocks; the head has none


def test_the_merged_folder_is_whole_and_readable_by_all(tiny_model: Path, tmp_path: Path) -> None:
    merge_adapter(tiny_model, random_adapter(tiny_model, tmp_path / "adapter", 0.2), tmp_path / "merged")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tiny_model / name).read_bytes()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "merged").iterdir()} == {0o644}
    assert "_name_or_path" not in json.loads((tmp_path / "merged" / "config.json").read_text())


def test_the_merge_tells_how_near_it_came(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", 0.2)
    check = merge_adapter(tiny_model, adapter, tmp_path / "merged")
    assert (check.dtype, check.tolerance, check.greedy_agreement_share) == ("float32", 5e-4, 1.0)
    assert check.positions > 150  # one token a byte
    assert 0 <= check.max_relative_difference <= 1e-5
    assert check.adapter_effect > 0.05
    assert not check.drowned


def test_a_model_in_bfloat16_is_merged_and_judged_in_bfloat16(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", 0.2)
    half = tmp_path / "half"
    shutil.copytree(tiny_model, half)
    load_model(tiny_model, torch.bfloat16).save_pretrained(str(half))
    check = merge_adapter(half, adapter, tmp_path / "merged")
    assert (check.dtype, check.tolerance) == ("bfloat16", 0.05)
    assert load_model(tmp_path / "merged").dtype == torch.bfloat16


def test_an_adapter_that_rounding_drowns_is_told(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", 1e-9)
    assert merge_adapter(tiny_model, adapter, tmp_path / "merged").drowned


def test_a_damaged_merge_is_refused_and_not_left_behind(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", 0.2)
    monkeypatch.setattr(merge, "make_readable", damage)  # the last thing done to the files before they are checked
    with pytest.raises(MergeNotExact, match=r"does not say what base plus adapter say.*Nothing was kept"):
        merge_adapter(tiny_model, adapter, tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def damage(folder: Path) -> None:
    """Shrink one of the 14 matrices that have an adapter by a tenth."""
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] *= 0.9
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_merge_that_is_not_a_number_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", float("inf"))
    with pytest.raises(UnfitModel, match="cannot be merged: NaNs detected"):
        merge_adapter(tiny_model, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_rank_is_read_from_the_folder_and_anything_else_refused(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", 0.2)
    assert adapter_rank(adapter) == 8
    (adapter / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UnfitModel, match="holds no LoRA adapter"):
        adapter_rank(adapter)


@torch.no_grad()
def test_greedy_text_of_the_real_model_is_the_same_merged_or_not(real_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(real_model, tmp_path / "adapter", scale=0.012)
    merge_adapter(real_model, adapter, tmp_path / "merged")
    tokenizer = load_tokenizer(real_model)
    model = load_adapted(real_model, adapter)
    adapted = greedy(model, tokenizer)
    with model.disable_adapter():
        plain = greedy(model, tokenizer)
    merged = greedy(load_model(tmp_path / "merged"), tokenizer)
    assert merged == adapted
    assert sum(one != other for one, other in zip(adapted, plain, strict=True)) >= 3  # the adapter does something


def greedy(model: Any, tokenizer: Any) -> list[str]:
    tokenizer.padding_side = "left"
    prompts = [
        tokenizer.apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True)
        for p in PROMPTS
    ]
    batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    written = model.generate(**batch, max_new_tokens=16, do_sample=False)
    return [tokenizer.decode(row[batch.input_ids.shape[1] :]) for row in written]
