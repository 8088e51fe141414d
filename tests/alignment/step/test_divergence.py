"""KL to the base is exact over the vocabulary, and so is its gradient."""

import torch
from torch import Tensor

from alignment.step.pair_step import PairStep
from alignment.step.vocabulary import token_divergence
from tests.alignment.step.test_pair_step import PAIRS, random_model


def plain_kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1)


def test_kl_and_its_gradient_equal_those_of_full_logits() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11, bias=True).double()
    hidden, base = torch.randn(5, 6).double().requires_grad_(), torch.randn(5, 6).double()
    found = token_divergence(hidden, base, head)
    plain = plain_kl(head(hidden), head(base))
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)
    weights = torch.arange(5).double()
    ours, theirs = (torch.autograd.grad((weights * side).sum(), hidden)[0] for side in (found, plain))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_a_pair_has_the_kl_of_its_answers_tokens_under_policy_and_base() -> None:
    model = random_model("llama")
    step = PairStep(model, pad_id=7)
    found = step.logps(model, step.collate(PAIRS), prompt=True, reference=True, divergence=True)
    assert found.divergence is not None
    for number, pair in enumerate(PAIRS):
        total = 0.0
        for side in (pair.chosen, pair.rejected):
            ids = torch.tensor([pair.prompt + side])
            policy = model(input_ids=ids, use_cache=False).logits[0]
            with model.disable_adapter():
                base = model(input_ids=ids, use_cache=False).logits[0]
            total += float(plain_kl(policy, base)[len(pair.prompt) - 1 : -1].sum())
        assert abs(found.divergence.sums[number].item() - total) < 1e-6
        assert found.divergence.counts[number].item() == len(pair.chosen) + len(pair.rejected)
    assert float(found.divergence.sums.min()) > 1e-6


def test_a_head_that_is_more_than_a_matrix_product_has_the_same_kl() -> None:
    model = random_model("gemma2, soft caps")
    step = PairStep(model, pad_id=7)
    found = step.logps(model, step.collate(PAIRS[:1]), divergence=True)
    ids = torch.tensor([PAIRS[0].prompt + PAIRS[0].chosen])
    policy = model(input_ids=ids, use_cache=False).logits[0]
    with model.disable_adapter():
        base = model(input_ids=ids, use_cache=False).logits[0]
    chosen = plain_kl(policy, base)[len(PAIRS[0].prompt) - 1 : -1].sum()
    assert found.divergence is not None
    assert float(found.divergence.sums[0]) > float(chosen) > 0
