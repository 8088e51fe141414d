"""A release appears whole and sealed, or not at all."""

import shutil
from collections import namedtuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alignment.errors import AdapterUnfit, DiskTooFull
from alignment.publish import publish, published_release, stage
from gateway.contracts.release import BaseModelRef, GateResult, Release
from gateway.contracts.seal import verify_seal
from tests.adapters import write_base, write_lora

CURVE = [
    {"step": step, "loss": 2.0 / step, "nll": 1.9 / step, "log_odds_ratio": 0.1 * step, "rewards/accuracy": 0.5}
    for step in range(1, 5)
]


@pytest.fixture
def release() -> Release:
    return Release(
        id="rel_1",
        name="assistant-20261123-1",
        alias="assistant",
        parent_id="rel_0",
        base=BaseModelRef(model="owner/model", revision="r1", weights_sha256="abc"),
        adapter_rank=16,
        method="orpo",
        dataset_id="ds_1",
        run_id="ftjob-1",
        created_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
        metrics={"holdout_accuracy": {"value": 0.75, "low": 0.6, "high": 0.9}, "perplexity": 20.5},
        gates=(GateResult(gate="perplexity", verdict="pass", value=0.01, limit=0.05, reason="as likely | as before"),),
    )


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "adapter"
    write_lora(folder, 16)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    write_base(folder)
    return folder


def staged(store: Path, base: Path) -> Path:
    staging = stage(store, "assistant", "rel_1", base)
    write_base(staging / "merged")
    (staging / "merged" / "config.json").write_text("{}")
    return staging


def test_a_published_release_verifies_and_reads_back(
    tmp_path: Path, base: Path, adapter: Path, release: Release
) -> None:
    location = publish(staged(tmp_path, base), tmp_path, release, adapter, CURVE, {"Data": {"pairs": 3}}, base)
    assert location == "releases/assistant/rel_1"
    verify_seal(tmp_path / location, "rel_1")
    assert published_release(tmp_path, "assistant", "rel_1") == release
    assert [path.name for path in (tmp_path / "releases" / "assistant").iterdir()] == ["rel_1"]


def test_the_card_tells_lineage_data_metrics_gates_and_versions(
    tmp_path: Path, base: Path, adapter: Path, release: Release
) -> None:
    location = publish(staged(tmp_path, base), tmp_path, release, adapter, CURVE, {"Why": ("one", "two")}, base)
    card = (tmp_path / location / "card.md").read_text()
    for told in (
        "base_model: owner/model",
        "| base model | owner/model, revision r1, weights abc |",
        "| compared with | rel_0 |",
        "| perplexity | pass | as likely \\| as before |",
        "| holdout_accuracy | 0.7500 (95 %: 0.6000 to 0.9000) |",
        "- one\n- two",
        "| torch |",
    ):
        assert told in card


@pytest.mark.parametrize("step", ["copytree", "model_card", "write_report", "write_seal", "rename_into_place"])
def test_a_crash_at_any_step_leaves_nothing_that_could_be_served(
    tmp_path: Path, base: Path, adapter: Path, release: Release, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    staging = staged(tmp_path, base)
    with monkeypatch.context() as broken:
        broken.setattr("shutil.copytree" if step == "copytree" else f"alignment.publish.{step}", crash)
        with pytest.raises(KeyboardInterrupt):
            publish(staging, tmp_path, release, adapter, CURVE, {}, base)
    assert published_release(tmp_path, "assistant", "rel_1") is None
    assert all(path.name.startswith(".") for path in (tmp_path / "releases" / "assistant").iterdir())
    publish(staged(tmp_path, base), tmp_path, release, adapter, CURVE, {}, base)
    assert [path.name for path in (tmp_path / "releases" / "assistant").iterdir()] == ["rel_1"]


def test_a_damaged_release_is_not_taken_for_a_finished_one(
    tmp_path: Path, base: Path, adapter: Path, release: Release
) -> None:
    location = publish(staged(tmp_path, base), tmp_path, release, adapter, CURVE, {}, base)
    (tmp_path / location / "merged" / "model.safetensors").write_bytes(b"mergeD")
    assert published_release(tmp_path, "assistant", "rel_1") is None
    assert not (tmp_path / location).exists()


def test_a_full_disk_is_found_before_anything_large_is_written(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**6, 10**6))
    with pytest.raises(DiskTooFull, match=r"a release needs 0.5 GB .* has 0.0 GB free; free some space there"):
        stage(tmp_path, "assistant", "rel_1", base)


def test_an_adapter_that_no_agent_would_load_is_not_published(
    tmp_path: Path, release: Release, adapter: Path, base: Path
) -> None:
    write_lora(adapter, 8)  # the release says 16
    with pytest.raises(AdapterUnfit, match="says rank 8"):
        publish(staged(tmp_path, base), tmp_path, release, adapter, CURVE, {}, base)
    assert published_release(tmp_path, "assistant", "rel_1") is None
