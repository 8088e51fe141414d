"""What the measurements share: pairs as token ids, and the tiny model with an adapter that does something."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from alignment.models import load_model
from alignment.pairs.tokens import TokenPair


@pytest.fixture(scope="session")
def token_pair() -> Callable[[int], TokenPair]:
    """Pairs of different lengths about three prompts, by their number; number 1 has sides of one length."""

    def make(number: int) -> TokenPair:
        return TokenPair(
            f"p{number}", f"ph_{number % 3}", 1.0, [0, 40 + number], [50] * (1 + number) + [1], [60, 61, 1]
        )

    return make


@pytest.fixture
def adapted_model(tiny_model: Path) -> Any:
    """The tiny model under a random adapter that moves its logits."""
    torch.manual_seed(1)
    adapted = get_peft_model(load_model(tiny_model), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    return adapted.eval()


class Largest(TorchDispatchMode):
    """While it lasts, remembers the size of the largest tensor that any operation made."""

    size_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [one.numel() * one.element_size() for one in tree_leaves(made) if isinstance(one, torch.Tensor)]
        self.size_bytes = max(self.size_bytes, *sizes, 0)
        return made


@pytest.fixture
def largest() -> Largest:
    """Ready to watch: `with largest: ...`."""
    return Largest()


@pytest.fixture(scope="session")
def wide_model() -> Any:
    """A model of 100,000 tokens under an adapter: the logits of 400 positions take 160 MB, its largest weight 6 MB."""
    config = LlamaConfig(
        vocab_size=100_000, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return get_peft_model(LlamaForCausalLM(config), LoraConfig(r=2, target_modules=["q_proj"])).eval()
