"""Eight batches of random pairs: every rung that shares prompts says what padded rows say, to the last digits."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from alignment.losses.orpo import orpo
from alignment.step.batch import Lengths, StepBatch
from alignment.step.pair_step import PairStep
from benchmarks.training.exactness import keep_norms_in_float64
from tests.alignment.step.test_pair_step import apart, random_model

BATCHES = 8


def random_batch(seed: int) -> StepBatch:
    """Four pairs of 1 to 40 tokens a part."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 41, (4, 3), generator=generator).tolist()
    tokens = sum(map(sum, sizes))
    return StepBatch(
        input_ids=torch.randint(128, (tokens,), generator=generator),
        lengths=[Lengths(*size) for size in sizes],
        weights=torch.ones(4),
        desirable=torch.ones(4, dtype=torch.bool),
    )


def loss_and_gradients(model: Any, step: PairStep, rung: str, batch: StepBatch) -> tuple[Tensor, Sequence[Tensor]]:
    step.rung = rung
    loss = orpo(step.logps(model, batch, prompt=True)).per_row.mean()
    return loss, torch.autograd.grad(loss, [one for one in model.parameters() if one.requires_grad])


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral, window of 6"])
def test_float64_agrees_to_1e_12_and_float32_to_what_it_can_hold(name: str) -> None:
    single = random_model(name, torch.float32)
    model = copy.deepcopy(single).double()
    keep_norms_in_float64(model)  # or else 1e-7 would be all that can be asked for
    step, single_step = PairStep(model, pad_id=7), PairStep(single, pad_id=7)
    for seed in range(BATCHES):
        batch = random_batch(seed)
        exact, gradients = loss_and_gradients(model, step, "padded", batch)
        for rung in ("segments", "rows"):
            loss, own = loss_and_gradients(model, step, rung, batch)
            torch.testing.assert_close(loss, exact, rtol=1e-12, atol=0)
            assert apart(list(own), list(gradients)) < 1e-12
            loss, own = loss_and_gradients(single, single_step, rung, batch)
            torch.testing.assert_close(loss.double(), exact, rtol=5e-7, atol=0)
            assert apart(list(own), list(gradients)) < 2e-5  # by the kernels of the processor
