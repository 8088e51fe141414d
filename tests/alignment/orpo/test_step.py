"""The step against the plain way: full logits of each row alone, log-softmax, and autograd."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alignment.adapter.attach import attach_adapter
from alignment.models import load_model
from alignment.orpo import step
from alignment.orpo.loss import orpo_loss
from alignment.orpo.step import pair_logps
from alignment.pairs.collate import PairCollator
from alignment.pairs.render import TokenPair
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

PAIRS = [
    TokenPair("a", "ph_a", 1.0, prompt=[0, 40, 41, 42, 1], chosen=[50, 51, 1], rejected=[60, 61, 62, 63, 64, 65, 1]),
    TokenPair("b", "ph_b", 1.0, prompt=[0, 43], chosen=[52, 53, 54, 55, 56, 1], rejected=[1]),
    TokenPair("c", "ph_c", 1.0, prompt=[0, 44, 45], chosen=[1], rejected=[66, 67, 1]),
]
BASE = BaseModelRef(model="local/tiny", revision="0", weights_sha256="0")


def adapted_model(folder: Path) -> Any:
    """The tiny model in float64 with an adapter whose matrices are all non-zero."""
    torch.manual_seed(1)
    model = attach_adapter(load_model(folder), BASE, TrainingOptions(rank=4)).double()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.1)
    return model


def plain_token_logps(model: Any, prompt: list[int], completion: list[int]) -> Tensor:
    """(P + C - 1,) log-probabilities of every token but the first, from full logits of one unpadded row."""
    ids = torch.tensor([prompt + completion])
    return model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)


def plain_means(model: Any) -> tuple[Tensor, Tensor, Tensor]:
    rows = [(plain_token_logps(model, pair.prompt, pair.chosen), len(pair.chosen)) for pair in PAIRS]
    others = [(plain_token_logps(model, pair.prompt, pair.rejected), len(pair.rejected)) for pair in PAIRS]
    chosen, rejected = (torch.stack([logps[-n:].mean() for logps, n in side]) for side in (rows, others))
    return chosen, rejected, torch.stack([-logps.mean() for logps, _ in rows])


@pytest.mark.parametrize("mode", ["chosen", "prompt_and_chosen"])
def test_log_probabilities_and_gradients_equal_the_plain_way(tiny_model: Path, mode: Any) -> None:
    model = adapted_model(tiny_model)
    logps = pair_logps(model, PairCollator(pad_id=7)(PAIRS), mode)
    chosen, rejected, whole = plain_means(model)
    nll = -chosen if mode == "chosen" else whole
    for ours, plain in ((logps.chosen, chosen), (logps.rejected, rejected), (logps.nll, nll)):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = torch.autograd.grad(orpo_loss(*logps, 0.1).total, parameters)
    plain = torch.autograd.grad(orpo_loss(chosen, rejected, nll, 0.1).total, parameters)
    assert len(parameters) == 2 * 2 * 7
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_small_blocks_of_logits_change_nothing(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted_model(tiny_model)
    batch = PairCollator(pad_id=7)(PAIRS)
    whole = pair_logps(model, batch, "prompt_and_chosen")
    monkeypatch.setattr(step, "_LOGIT_BLOCK_BYTES", 1)  # so 16 positions at a time
    torch.testing.assert_close(pair_logps(model, batch, "prompt_and_chosen"), whole, rtol=0, atol=1e-13)


def test_a_model_that_reshapes_its_logits_is_scored_through_its_own_head(tiny_model: Path) -> None:
    model = load_model(tiny_model).double()
    batch = PairCollator(pad_id=7)(PAIRS)
    with torch.no_grad():
        through_blocks = pair_logps(model, batch)
        model.config.final_logit_softcapping = 30.0  # Llama ignores it; the step may not
        torch.testing.assert_close(pair_logps(model, batch), through_blocks, rtol=0, atol=1e-12)


def test_scores_are_float32_even_for_a_bfloat16_model(tiny_model: Path) -> None:
    with torch.no_grad():
        logps = pair_logps(load_model(tiny_model, torch.bfloat16), PairCollator(pad_id=7)(PAIRS))
    assert {values.dtype for values in logps} == {torch.float32}
