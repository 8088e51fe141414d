"""Models as they are loaded from their folders, on the rung they come to stand on."""

from pathlib import Path

import pytest
import torch

from alignment.models import load_model
from alignment.step.pair_step import PairStep
from tests.alignment.step.test_pair_step import ARCHITECTURES, PAIRS, plain_means, random_model

RUNG_AND_ATTENTION = {
    "llama": ("segments", "sdpa"),
    "gemma2, soft caps": ("rows", "eager"),
    "mamba": ("padded", "eager"),
}


@pytest.mark.parametrize("name", RUNG_AND_ATTENTION)
def test_a_model_attends_the_way_that_leaves_nothing_out(name: str, tmp_path: Path) -> None:
    rung, attention = RUNG_AND_ATTENTION[name]
    made = random_model(name, torch.float32)
    base = made.unload() if hasattr(made, "unload") else made
    base.save_pretrained(str(tmp_path))
    model = load_model(tmp_path)
    assert model.config._attn_implementation == attention
    assert PairStep(model, pad_id=7).rung == rung == ARCHITECTURES[name][2]
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, base(input_ids=ids).logits, rtol=0, atol=1e-6)


def test_soft_caps_are_heeded_even_if_the_model_was_loaded_with_attention_that_knows_none() -> None:
    model = random_model("gemma2, soft caps", torch.float32)
    capped = plain_means(model)[0]
    model.config._attn_implementation = "sdpa"
    uncapped = plain_means(model)[0]
    step = PairStep(model, pad_id=7)
    found = step.logps(model, step.collate(PAIRS)).chosen.means
    torch.testing.assert_close(found, capped, rtol=0, atol=1e-5)
    assert float((found - uncapped).abs().max()) > 1e-4
