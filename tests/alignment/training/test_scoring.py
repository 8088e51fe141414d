"""A step is the same whether its rows are scored at once or in parts, and it survives running out of memory."""

from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.adapter.attach import attach_adapter
from alignment.errors import OutOfMemory
from alignment.losses.catalogue import find_loss
from alignment.models import load_model
from alignment.pairs.tokens import TokenAnswer, TokenPair
from alignment.step.batch import Single, StepBatch
from alignment.step.pair_step import PairStep
from alignment.training.batches import Planned, PlannedRows, TokenBudget, auto_tokens
from alignment.training.loop import train_adapter
from alignment.training.scoring import RowScorer
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

BASE = BaseModelRef(model="owner/tiny", revision="r1", weights_sha256="0")


def pair(prompt: list[int], chosen: list[int], rejected: list[int], weight: float = 1.0) -> TokenPair:
    return TokenPair("", "", weight, prompt, chosen, rejected)


def thumb(prompt: list[int], completion: list[int], desirable: bool) -> TokenAnswer:
    return TokenAnswer("", "", 1.0, prompt, completion, desirable)


PAIRS = [
    pair([3, 4, 5], [6, 7], [8]),
    pair([9], [10, 11, 12], [13, 14], 2.0),
    pair([5, 6], [7], [8, 9, 10]),
    pair([4], [5], [6]),
]
THUMBS = [thumb(row.prompt, row.chosen, number % 2 == 0) for number, row in enumerate(PAIRS)]


@pytest.fixture
def model(tiny_model: Path) -> Any:
    """With an adapter that does something, in float64."""
    adapted = attach_adapter(load_model(tiny_model), BASE, TrainingOptions(rank=4)).double()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator).double() * 0.1
    return adapted


def planned(rows: list[Any]) -> list[Planned]:
    return [Planned(row, rows[(place + 1) % len(rows)]) for place, row in enumerate(rows)]


def step_of(model: Any, method: str, tokens: int, rows: list[Any]) -> tuple[dict[str, float], list[torch.Tensor]]:
    options = TrainingOptions(method=method)
    scorer = RowScorer(PairStep(model, 1), find_loss(method), options.loss_parameters, TokenBudget(tokens))
    model.zero_grad()
    metrics = scorer.score(model, planned(rows), learn=True)
    return metrics, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("method", ["orpo", "orpo-kl", "dpo", "ipo", "simpo", "kto", "sft"])
def test_parts_add_up_to_the_step_as_a_whole(model: Any, method: str) -> None:
    rows: list[Any] = THUMBS if method in ("kto", "sft") else PAIRS
    whole, gradients = step_of(model, method, 10_000, rows)
    parts, gradients_of_parts = step_of(model, method, 7, rows)
    assert parts == pytest.approx(whole, abs=1e-6)
    assert whole["loss"] != 0
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    for one, other in zip(gradients, gradients_of_parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)


def test_kto_measures_its_baseline_on_answers_to_other_prompts(model: Any) -> None:
    scorer = RowScorer(
        PairStep(model, 1), find_loss("kto"), TrainingOptions(method="kto").loss_parameters, TokenBudget(99)
    )
    metrics = scorer.score(model, planned(THUMBS), learn=False)
    total = 0.0
    for row, other in planned(THUMBS):
        assert isinstance(row, Single)
        assert isinstance(other, Single)
        step = PairStep(model, 1)
        logps = step.logps(model, step.collate([thumb(list(row.prompt), list(other.completion), True)]), reference=True)
        assert logps.reference is not None
        total += (logps.chosen.sums - logps.reference.chosen.sums).item()
    assert metrics["kl"] == pytest.approx(max(0.0, total / len(THUMBS)), abs=1e-6)


def test_a_budget_cuts_in_order_and_never_a_row() -> None:
    rows = planned(PAIRS)  # 6, 6, 6 and 3 tokens
    assert [len(part) for part in TokenBudget(12).split(rows)] == [2, 2]
    assert [len(part) for part in TokenBudget(2).split(rows)] == [1, 1, 1, 1]


def test_a_processor_is_never_given_more_at_once_than_makes_it_faster(model: Any) -> None:
    assert auto_tokens(model.config, torch.device("cpu")) == 1024  # of a tiny model, far more would fit into memory


def test_every_step_is_full_and_every_pass_has_each_row_once() -> None:
    rows = PlannedRows(PAIRS[:3], steps=3, per_step=2, seed=0)
    order = [rows[index].row for index in range(len(rows))]
    assert len(order) == 6
    assert sorted(map(id, order[:3])) == sorted(map(id, order[3:])) == sorted(map(id, PAIRS[:3]))
    assert [rows[0].next, rows[1].next] == [order[1], order[0]]


class ScarceMemory(PairStep):
    """Fails like torch on a processor when a batch has more rows than `most`."""

    most = 1

    def logps(self, model: Any, batch: StepBatch, **asked: Any) -> Any:
        if len(batch["lengths"]) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return super().logps(model, batch, **asked)


def run(tiny_model: Path, folder: Path, **more: Any) -> Any:
    options = TrainingOptions(rank=4, max_steps=2, learning_rate=1e-2, device="cpu", dropout=0.1, **more)
    return train_adapter(load_model(tiny_model), PAIRS, options, BASE, folder, pad_id=1)


def test_when_memory_runs_out_the_step_is_done_again_in_smaller_parts(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_model, tmp_path / "small", tokens_per_batch=2)
    monkeypatch.setattr("alignment.training.prepare.PairStep", ScarceMemory)
    trained = run(tiny_model, tmp_path / "scarce")
    assert any("memory ran out: from then on at most" in reason for reason in trained.reasons)
    small, scarce = (
        (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("small", "scarce")
    )
    assert small == scarce


def test_when_not_even_one_pair_fits_the_end_says_what_to_do(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignment.training.prepare.PairStep", ScarceMemory)
    monkeypatch.setattr(ScarceMemory, "most", 0)
    with pytest.raises(OutOfMemory, match="lower max_length_tokens"):
        run(tiny_model, tmp_path)
