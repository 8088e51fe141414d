"""Matrix products through oneDNN: right in every gradient, only where they are meant to be, gone when they are done."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn
from torch.nn.functional import linear as torch_linear
from torch.profiler import ProfilerActivity, profile

from alignment.step.products import has_onednn, linear, linears_of, multiplying, times

only_onednn = pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN for an x86 processor")


def given(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def apart(one: torch.Tensor, exact: torch.Tensor) -> float:
    return float((one.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("leading", [(7,), (1, 130), (2, 3, 5)])
@pytest.mark.parametrize(("inputs", "outputs"), [(48, 33), (16, 96), (96, 16)])
@pytest.mark.parametrize("biased", [False, True])
def test_products_and_all_three_gradients_are_those_of_float64(
    leading: Sequence[int], inputs: int, outputs: int, biased: bool
) -> None:
    sides = [given(*leading, inputs, seed=1), given(outputs, inputs, seed=2)]
    sides += [given(outputs, seed=3)] if biased else []
    upstream = given(*leading, outputs, seed=4).detach()
    exact_sides = [side.detach().double().requires_grad_() for side in sides]
    ours, exact = linear(*sides), torch_linear(*exact_sides)

    found = torch.autograd.grad(ours, sides, upstream)
    expected = torch.autograd.grad(exact, exact_sides, upstream.double())

    assert apart(ours.detach(), exact.detach()) < 1e-6
    assert [one.shape for one in found] == [one.shape for one in expected]
    assert all(apart(one, other) < 1e-6 for one, other in zip(found, expected, strict=True))


def test_a_product_of_two_matrices_is_that_of_float64() -> None:
    left, right = given(9, 70, seed=1).detach(), given(70, 40, seed=2).detach()
    assert apart(times(left, right), left.double() @ right.double()) < 1e-6
    assert torch.equal(times(left.double(), right.double()), left.double() @ right.double())


def test_other_precisions_are_multiplied_as_torch_does() -> None:
    values, weight = given(5, 8, seed=1).bfloat16(), given(6, 8, seed=2).bfloat16()
    assert torch.equal(linear(values, weight), torch_linear(values, weight))
    assert linears_of(nn.Sequential(nn.Linear(8, 6)).double()) == []


@only_onednn
def test_layers_multiply_by_onednn_forward_and_backward_only_while_they_are_asked_to() -> None:
    model = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 8))
    model[0].weight.requires_grad_(False)
    values = given(64, 32, seed=1)

    def products_of() -> int:
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            model(values).sum().backward()
        return sum(event.count for event in seen.key_averages() if event.key == "mkldnn::_linear_pointwise")

    assert products_of() == 0
    with multiplying(linears_of(model)), multiplying(linears_of(model)):
        assert products_of() == 2 + 3  # two forward; backward one for the frozen layer, two for the other
    assert products_of() == 0
    assert all("forward" not in layer.__dict__ for layer in model)
    assert model[0].weight.grad is None


@only_onednn
def test_a_layer_whose_forward_somebody_else_replaced_is_left_alone() -> None:
    layer = nn.Linear(4, 4)
    layer.forward = lambda values: values + 1  # type: ignore[method-assign]
    with multiplying(linears_of(nn.Sequential(layer))):
        assert torch.equal(layer(torch.zeros(4)), torch.ones(4))
    assert torch.equal(layer(torch.zeros(4)), torch.ones(4))


@only_onednn
def test_a_product_that_onednn_has_no_memory_for_is_made_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> torch.Tensor:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr("alignment.step.products._by_onednn", out_of_memory)
    values, weight = given(9, 70, seed=1).detach(), given(40, 70, seed=2).detach()
    assert torch.equal(linear(values, weight), torch_linear(values, weight))
