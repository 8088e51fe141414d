"""Log-probabilities through heads that scale or cap, against full logits and autograd."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alignment.step import head as head_module
from alignment.step.head import Finish, finish_of, head_divergence, head_logps, possible_finishes
from alignment.step.pair_step import PairStep
from tests.alignment.step.test_pair_step import random_model

FINISHES = [Finish(), Finish(scale=0.25), Finish(cap=0.5), Finish(scale=3.0, cap=1.5)]


def body_and_finish(name: str) -> tuple[Any, Finish | None]:
    model = random_model(name).get_base_model()
    return model, finish_of(model, model.model)


@pytest.mark.parametrize(
    ("name", "finish"),
    [
        ("llama", Finish()),
        ("cohere, scaled logits", Finish(scale=0.3)),
        ("granite, divided logits", Finish(scale=1 / 0.3)),
        ("gemma2, soft caps", Finish(cap=0.2)),
    ],
)
def test_what_a_head_does_is_read_off_its_logits(name: str, finish: Finish) -> None:
    assert body_and_finish(name)[1] == finish


def test_one_name_may_be_a_factor_or_a_divisor_and_the_likeliest_comes_first() -> None:
    found = possible_finishes(SimpleNamespace(logits_scaling=4, final_logit_softcapping=30))
    assert found == [Finish(4, 30), Finish(0.25, 30), Finish(1, 30), Finish(4), Finish(0.25), Finish()]
    assert possible_finishes(SimpleNamespace(logits_scaling=None)) == [Finish()]


def test_a_head_that_does_something_else_is_left_to_the_model() -> None:
    model = random_model("llama")
    causal = model.get_base_model()
    causal.lm_head.register_forward_hook(lambda _module, _given, logits: logits + logits.square())
    step = PairStep(model, pad_id=7)
    assert (step.rung, step.reason) == ("padded", "pairs padded: its head is more than a matrix product")


@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("bias", [True, False])
def test_log_probabilities_and_their_gradient_equal_those_of_full_logits(
    finish: Finish, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "_LOGIT_BLOCK_BYTES", 1)  # so 16 positions at a time
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11, bias=bias).double()
    hidden, targets = torch.randn(40, 6).double().requires_grad_(), torch.arange(40) % 11
    logits = finish.scale * head(hidden)
    logits = logits if finish.cap is None else finish.cap * torch.tanh(logits / finish.cap)
    plain = logits.log_softmax(1)[torch.arange(40), targets]
    ours = head_logps(hidden, head, finish, targets)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    weights = torch.arange(40).double()
    gradients = [torch.autograd.grad((weights * side).sum(), hidden)[0] for side in (ours, plain)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    assert head.weight.grad is None


@pytest.mark.parametrize("finish", FINISHES)
def test_divergence_is_that_of_full_logits(finish: Finish) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11).double()
    hidden, base = torch.randn(5, 6).double().requires_grad_(), torch.randn(5, 6).double()
    p, q = (finish.of(head(side)).softmax(1) for side in (hidden, base))
    plain = (p * (p / q).log()).sum(1)
    ours = head_divergence(hidden, base, head, finish)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(side.sum(), hidden)[0] for side in (ours, plain)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
