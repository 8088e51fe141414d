"""The arithmetic of adapters that the CPU launcher gives vLLM, against vLLM's own where that is right."""

import importlib.util
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from gateway.engines.vllm_cpu_launch import mend_adapters

TOKENS, WIDTH, RANK, MADE, PLACES = 7, 5, 3, 6, 2


def arithmetic() -> ModuleType:
    """A fresh copy of vLLM's module, which needs torch alone."""
    package = importlib.util.find_spec("vllm")
    assert package is not None
    assert package.submodule_search_locations
    path = f"{package.submodule_search_locations[0]}/lora/ops/torch_ops/lora_ops.py"
    spec = importlib.util.spec_from_file_location("lora_ops", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mended() -> ModuleType:
    module = arithmetic()
    mend_adapters(module, SimpleNamespace(__name__="calls", bgmv_shrink=0, bgmv_expand=0, bgmv_expand_slice=0))
    return module


def applied(module: Any, indices: list[int]) -> torch.Tensor:
    """What adapters add to zeros, and to a part of ones: prefill (`sgmv`), as vLLM calls it."""
    torch.manual_seed(1)
    inputs, a = torch.randn(TOKENS, WIDTH), torch.randn(PLACES, 1, RANK, WIDTH)
    b, low, high = torch.randn(PLACES, 1, MADE, RANK), torch.zeros(TOKENS, RANK), torch.ones(TOKENS, 2 * MADE)
    places, lengths = torch.unique_consecutive(torch.tensor(indices), return_counts=True)
    batch = (torch.zeros_like(lengths), lengths, places, len(places), int(lengths.max()), TOKENS)
    module.sgmv_shrink(inputs, a, low, *batch, 0.5)
    module.sgmv_expand_slice(low, b, high, *batch, MADE, MADE, True)
    module.sgmv_expand(low, b, high, *batch, True)
    return high


def test_a_request_without_an_adapter_gets_none_in_a_batch_with_one() -> None:
    indices = [-1, -1, 1, 1, -1, 0, -1]
    plain, ours = applied(arithmetic(), indices), applied(mended(), indices)
    without = torch.tensor(indices) < 0
    assert torch.equal(ours[without], torch.ones(4, 2 * MADE))
    assert not torch.equal(plain[without], torch.ones(4, 2 * MADE))  # else vLLM has mended it, and we need not
    torch.testing.assert_close(ours[~without], plain[~without])


def test_a_batch_of_one_adapter_comes_out_as_vllm_has_it() -> None:
    torch.testing.assert_close(applied(mended(), [1] * TOKENS), applied(arithmetic(), [1] * TOKENS))
