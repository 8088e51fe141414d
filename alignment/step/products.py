"""Matrix products of a step on a processor: through oneDNN, where torch itself would ask MKL.

MKL keeps to AVX2 on processors that are not its maker's; oneDNN takes what the processor has, and is no slower on AVX2.
Its products are rounded otherwise, but no worse. Which of the two multiplies depends on what they are given and never
on a clock, so that a run gives the same bytes each time.
"""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear as plain_linear

_KEPT_SHAPES = {"LRU_CACHE_CAPACITY": "64", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}
"""oneDNN keeps compiled code and scratch memory for each shape it met, 1,024 of them by itself; steps differ in length,
so that would grow to gigabytes. A step meets about thirty. Read when it multiplies for the first time."""
_ALLOWED = 1e-5
"""How far a trial product may lie from that in float64, as a share of its length."""


def times(left: Tensor, right: Tensor) -> Tensor:
    """left (N, K) @ right (K, M) -> (N, M); no gradient flows through it."""
    return _multiplied(left, right.t(), None) if _is_ours(left, right) else left @ right


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """values (..., K), weight (M, K), bias (M,) -> values @ weight.T + bias (..., M); all three get gradients."""
    if not _is_ours(values, weight):
        return plain_linear(values, weight, bias)
    product: Tensor = _Linear.apply(values, weight, bias)  # type: ignore[no-untyped-call]
    return product


def linears_of(model: nn.Module) -> list[nn.Linear]:
    """The layers that `multiplying` speeds up; none where torch's own products are the best there are."""
    if not has_onednn():
        return []
    return [one for one in model.modules() if type(one) is nn.Linear and _is_ours(one.weight, one.weight)]


@contextmanager
def multiplying(layers: Sequence[nn.Linear]) -> Iterator[None]:
    """While it lasts, these layers multiply by `linear`; around the backward pass too if that makes parts anew."""
    ours = [layer for layer in layers if "forward" not in layer.__dict__]
    for layer in ours:
        layer.__dict__["forward"] = partial(_forward, layer)
    try:
        yield
    finally:
        for layer in ours:
            del layer.__dict__["forward"]


@cache
def has_onednn() -> bool:
    """Whether this build of torch has oneDNN for float32 on an x86 processor, and multiplies a trial pair right."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    for name, capacity in _KEPT_SHAPES.items():
        os.environ.setdefault(name, capacity)
    try:
        generator = torch.Generator().manual_seed(0)
        left, right = (torch.randn(rows, 48, generator=generator) for rows in (40, 33))
        exact = left.double() @ right.double().t()
        apart = _by_onednn(left, right, None).double() - exact
        return float(apart.norm()) <= _ALLOWED * float(exact.norm())
    except (RuntimeError, AttributeError):  # an operator of torch's own that its next version may name otherwise
        return False


class _Linear(torch.autograd.Function):
    """values @ weight.T + bias, whose three products go through oneDNN."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """values (..., K), weight (M, K), bias (M,) or None -> (..., M)."""
        ctx.save_for_backward(values if ctx.needs_input_grad[1] else None, weight)
        return _multiplied(values, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """upstream (..., M) -> the gradients of values, weight and bias, as far as they are asked for."""
        values, weight = ctx.saved_tensors
        wants_values, wants_weight, wants_bias = ctx.needs_input_grad
        rows = upstream.reshape(-1, upstream.shape[-1])
        return (
            _multiplied(upstream, weight.t(), None) if wants_values else None,
            _outer(rows, values.reshape(-1, values.shape[-1])) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )


def _outer(upstream: Tensor, values: Tensor) -> Tensor:
    """upstream (N, M), values (N, K) -> upstream.T @ values (M, K), in the order in which oneDNN is fast."""
    if upstream.shape[1] <= values.shape[1]:
        return _multiplied(upstream.t(), values.t(), None)
    return _multiplied(values.t(), upstream.t(), None).t()


def _multiplied(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    try:
        return _by_onednn(values, weight, bias)
    except RuntimeError:  # it compiles code for every new shape, and there may be no memory for that
        return plain_linear(values, weight, bias)


def _by_onednn(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")
    return product


def _forward(layer: nn.Linear, values: Tensor) -> Tensor:
    return linear(values, layer.weight, layer.bias)


def _is_ours(*sides: Tensor) -> bool:
    return has_onednn() and all(side.device.type == "cpu" and side.dtype == torch.float32 for side in sides)
