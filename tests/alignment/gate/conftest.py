"""What the measurements share: pairs as token ids, and the tiny model with an adapter that does something."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from alignment.models import load_model
from alignment.pairs.render import TokenPair


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
