"""Merged weights of one release plus the difference adapter are the other release: in matrices and in logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignment.adapter.attach import attach_adapter, save_adapter
from alignment.adapter.difference import write_difference
from alignment.adapter.merge import merge_adapter
from alignment.errors import UnfitModel
from alignment.jobs.contracts import DeriveOrder, MergeJob
from alignment.jobs.work import merge
from alignment.models import load_adapted, load_model
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

BASE = BaseModelRef(model="owner/model", revision="r1", weights_sha256="0")


def random_adapter(model_folder: Path, folder: Path, seed: int, **options: Any) -> Path:
    torch.manual_seed(seed)
    fields: dict[str, Any] = {"rank": 8, "alpha": 16} | options
    adapted = attach_adapter(load_model(model_folder), BASE, TrainingOptions(**fields))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    save_adapter(adapted, BASE, folder)
    return folder


def by_hand(folder: Path, a: list[list[float]], b: list[list[float]], rank: int, alpha: int, **config: Any) -> Path:
    folder.mkdir()
    name = "base_model.model.layer.q_proj.lora_"
    tensors = {f"{name}A.weight": torch.tensor(a), f"{name}B.weight": torch.tensor(b)}
    save_file(tensors, str(folder / "adapter_model.safetensors"))
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(fields | config))
    return folder


@pytest.fixture
def plain_base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_ranks_are_joined_and_scaling_is_folded_into_b(tmp_path: Path, plain_base: Path) -> None:
    candidate = by_hand(tmp_path / "c", [[1.0, 2.0]], [[3.0], [4.0]], rank=1, alpha=2)
    incumbent = by_hand(
        tmp_path / "i", [[1.0, 0.0]] * 4, [[1.0, 0.0, 0.0, 1.0], [0.0] * 4], rank=4, alpha=4, use_rslora=True
    )
    assert write_difference(candidate, incumbent, plain_base, tmp_path / "d") == 5
    tensors = load_file(tmp_path / "d" / "adapter_model.safetensors")
    a, b = (tensors[f"base_model.model.layer.q_proj.lora_{part}.weight"] for part in "AB")
    assert a.tolist() == [[1.0, 2.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
    assert b.tolist() == [[6.0, -2.0, 0.0, 0.0, -2.0], [8.0, 0.0, 0.0, 0.0, 0.0]]
    config = json.loads((tmp_path / "d" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (5, 5, False)


@torch.no_grad()
@pytest.mark.parametrize("rslora", [False, True], ids=["lora", "rslora"])
def test_over_merged_weights_the_difference_gives_the_other_releases_logits(
    tiny_model: Path, tmp_path: Path, rslora: bool
) -> None:
    one = random_adapter(tiny_model, tmp_path / "one", 3, rslora=rslora)
    two = random_adapter(tiny_model, tmp_path / "two", 4, rank=4, alpha=4, targets=("q_proj", "up_proj"))
    for adapter in (one, two):
        merge_adapter(tiny_model, adapter, tmp_path / f"merged-{adapter.name}")
    assert write_difference(two, one, tiny_model, tmp_path / "difference") == 12
    assert write_difference(one, two, tiny_model, tmp_path / "reverse") == 12
    assert write_difference(None, two, tiny_model, tmp_path / "to-base") == 4
    ids = torch.arange(2, 60)[None]
    merged = {name: load_model(tmp_path / f"merged-{name}")(ids).logits for name in ("one", "two")}
    base = load_model(tiny_model)(ids).logits
    for over, adapter, expected in (
        ("one", "difference", merged["two"]),
        ("two", "reverse", merged["one"]),
        ("two", "to-base", base),
    ):
        found = load_adapted(tmp_path / f"merged-{over}", tmp_path / adapter)(ids).logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert (merged[over] - expected).abs().max() > 0.05


def test_a_merge_writes_both_ways_between_candidate_and_incumbent_or_says_why_not(
    tiny_model: Path, tmp_path: Path
) -> None:
    one, two = (random_adapter(tiny_model, tmp_path / name, seed) for name, seed in (("one", 3), ("two", 4)))
    dora = random_adapter(tiny_model, tmp_path / "dora", 5, dora=True)

    def merged(incumbent: Path | None, out: str) -> tuple[int | None, int | None, str | None, list[str]]:
        folder = tmp_path / out
        order = DeriveOrder(
            incumbent=incumbent, difference_folder=folder / "difference", reverse_folder=folder / "reverse"
        )
        job = MergeJob(base_folder=tiny_model, adapter=two, merged_folder=folder / "merged", derive=order)
        made = merge(job)
        return made.difference_rank, made.reverse_rank, made.not_derived, sorted(path.name for path in folder.iterdir())

    assert merged(one, "over-one") == (16, 16, None, ["difference", "merged", "reverse"])
    assert merged(None, "over-base") == (None, 8, None, ["merged", "reverse"])
    difference, reverse, why, folders = merged(dora, "over-dora")
    assert (difference, reverse, folders) == (None, None, ["merged"])
    assert "DoRA" in str(why)


def test_what_has_no_exact_difference_is_refused_with_its_reason(tmp_path: Path, plain_base: Path) -> None:
    plain = by_hand(tmp_path / "plain", [[1.0]], [[1.0]], rank=1, alpha=1)
    dora = by_hand(tmp_path / "dora", [[1.0]], [[1.0]], rank=1, alpha=1, use_dora=True)
    uneven = by_hand(tmp_path / "uneven", [[1.0]], [[1.0]], rank=1, alpha=1, rank_pattern={"q_proj": 2})
    for adapter, why in ((dora, "DoRA"), (uneven, "evenly ranked")):
        with pytest.raises(UnfitModel, match=why):
            write_difference(adapter, plain, plain_base, tmp_path / "d")
    with pytest.raises(UnfitModel, match=r"engine\.max_adapter_rank = 2"):
        write_difference(plain, plain, plain_base, tmp_path / "d", max_rank=1)
    (plain_base / "config.json").write_text(json.dumps({"quantization_config": {"bits": 4}}))
    with pytest.raises(UnfitModel, match="quantised"):
        write_difference(plain, plain, plain_base, tmp_path / "d")
    assert not (tmp_path / "d").exists()
