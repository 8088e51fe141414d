"""A run learns, says how it goes, stops when asked, and comes out the same whether or not it was interrupted."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import TrainerCallback

from alignment.errors import NotEnoughPairs, TrainingDiverged, TrainingStopped
from alignment.models import load_model, load_renderer
from alignment.pairs.pair import PreferencePair
from alignment.pairs.tokens import TokenPair
from alignment.step.pair_step import PairStep
from alignment.training.checkpoints import find_newest
from alignment.training.loop import train_adapter
from alignment.training.watch import Watching
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

BASE = BaseModelRef(model="owner/tiny", revision="r1", weights_sha256="0")
OPTIONS = TrainingOptions(rank=4, alpha=8, max_steps=12, learning_rate=1e-2, device="cpu", dropout=0.1)


@pytest.fixture
def token_pairs(tiny_model: Path, colour_pairs: list[PreferencePair]) -> list[TokenPair]:
    return load_renderer(tiny_model, 256).render_all(colour_pairs).pairs


def train(model: Path, pairs: list[TokenPair], folder: Path, options: TrainingOptions = OPTIONS, **more: Any) -> Any:
    return train_adapter(load_model(model), pairs, options, BASE, folder, pad_id=1, watching=Watching(**more))


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_training_makes_the_chosen_answers_likelier(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    trained = train(tiny_model, token_pairs, tmp_path)
    model = PeftModel.from_pretrained(load_model(tiny_model), str(trained.adapter))
    step = PairStep(model, pad_id=1)
    with torch.no_grad():
        after = step.logps(model, step.collate(token_pairs), reference=True)
    assert after.reference is not None
    assert (after.chosen.means > after.reference.chosen.means + 0.5).all()
    assert (after.chosen.means > after.rejected.means).all()


def test_the_adapter_names_its_base_and_no_folder(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    trained = train(tiny_model, token_pairs, tmp_path)
    config = json.loads((trained.adapter / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/tiny", "r1")
    assert sorted(path.name for path in trained.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_every_step_is_reported_and_written_down(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    seen: list[dict[str, float]] = []
    trained = train(tiny_model, token_pairs, tmp_path, on_progress=seen.append)
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == [line["step"] for line in seen] == list(range(1, 13))
    assert trained.last == written[-1]
    for line in written:
        assert line["loss"] == pytest.approx(line["nll"] + 0.1 * _mean_penalty_bounds(line), abs=0.2)
        assert line["rewards/margin"] == pytest.approx(line["rewards/chosen"] - line["rewards/rejected"], abs=1e-6)
        assert line["pairs_per_second"] > 0
    assert list((tmp_path / "tensorboard").iterdir())


def _mean_penalty_bounds(line: dict[str, float]) -> float:
    # By Jensen's inequality the mean penalty is at least that of the mean ratio; on these short batches not much more.
    return float(-torch.nn.functional.logsigmoid(torch.tensor(line["log_odds_ratio"])))


def test_an_interrupted_run_ends_in_the_same_bytes(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    train(tiny_model, token_pairs, tmp_path / "whole")
    steps_done: list[float] = []

    def stop_after_5() -> bool:
        return len(steps_done) >= 4

    with pytest.raises(TrainingStopped, match="after step 5 of 12"):
        train(
            tiny_model,
            token_pairs,
            tmp_path / "broken",
            on_progress=lambda metrics: steps_done.append(metrics["step"]),
            should_stop=stop_after_5,
        )
    train(tiny_model, token_pairs, tmp_path / "broken", on_progress=lambda m: steps_done.append(m["step"]))
    assert steps_done == list(range(1, 13))
    assert adapter_bytes(tmp_path / "broken") == adapter_bytes(tmp_path / "whole")
    whole, broken = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "broken"))
    assert [json.loads(line)["loss"] for line in broken] == [json.loads(line)["loss"] for line in whole]


def test_a_half_written_checkpoint_is_not_resumed_from(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    train(tiny_model, token_pairs, tmp_path, checkpoint_seconds=0.0)
    assert find_newest(tmp_path).newest == tmp_path / "checkpoint-12"
    (tmp_path / "checkpoint-12" / "SEAL.json").unlink()
    assert find_newest(tmp_path).newest == tmp_path / "checkpoint-11"
    assert not (tmp_path / "checkpoint-12").exists()


def test_lines_of_steps_done_anew_and_half_lines_leave_the_metrics_file(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 99}\n{"step": 2, "lo')
    train(tiny_model, token_pairs, tmp_path)
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == list(range(1, 13))
    assert written[0]["loss"] != 99


def test_no_memory_for_a_picture_of_the_curves_costs_no_adapter(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def refuse(*_: Any) -> None:
        raise ImportError("_backend_agg.so: failed to map segment from shared object")

    monkeypatch.setattr("alignment.training.loop.plot_curves", refuse)
    assert (train(tiny_model, token_pairs, tmp_path).adapter / "adapter_model.safetensors").is_file()
    assert "training.png was not drawn: no memory is left" in caplog.text


def test_another_seed_gives_another_adapter(tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path) -> None:
    train(tiny_model, token_pairs, tmp_path / "a")
    train(tiny_model, token_pairs, tmp_path / "b", OPTIONS.model_copy(update={"seed": 1}))
    assert adapter_bytes(tmp_path / "a") != adapter_bytes(tmp_path / "b")


def test_weights_matter_by_their_proportion_only(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    halved = [dataclasses.replace(pair, weight=0.5) for pair in token_pairs]
    first_heavier = [dataclasses.replace(pair, weight=1.0 + (i == 0)) for i, pair in enumerate(token_pairs)]
    for name, pairs in (("ones", token_pairs), ("halves", halved), ("uneven", first_heavier)):
        train(tiny_model, pairs, tmp_path / name)
    assert adapter_bytes(tmp_path / "halves") == adapter_bytes(tmp_path / "ones")
    assert adapter_bytes(tmp_path / "uneven") != adapter_bytes(tmp_path / "ones")


def test_a_loss_that_is_no_number_ends_the_run_with_advice(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    broken = [dataclasses.replace(pair, weight=float("nan")) for pair in token_pairs]
    with pytest.raises(TrainingDiverged, match="at step 1; lower the learning rate"):
        train(tiny_model, broken, tmp_path)


class Broken(TrainerCallback):  # type: ignore[misc]  # transformers is not followed by the type checker
    """Spoils the adapter after step 5, with numbers that are still finite."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == 5:
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.data.fill_(1e30)


def test_the_checkpoint_that_is_named_is_from_before_the_damage(
    tiny_model: Path, token_pairs: list[TokenPair], tmp_path: Path
) -> None:
    with pytest.raises(TrainingDiverged, match=r"at step 6; .* is that of step 4, in .*checkpoint-4"):
        train(tiny_model, token_pairs, tmp_path, checkpoint_seconds=0.0, callbacks=(Broken(),))
    # What was saved after step 5 is of the spoilt adapter, though nothing had shown it yet.
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]


def test_nothing_to_train_on_is_said_before_anything_is_written(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughPairs, match="no pair is left"):
        train(tiny_model, [], tmp_path / "run")
    assert not (tmp_path / "run").exists()
