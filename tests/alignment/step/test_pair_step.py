"""The step against the plain way: full logits of each row alone, log-softmax, and autograd; over many architectures."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from alignment.adapter.attach import attach_adapter
from alignment.losses.orpo import likelihood, orpo_loss
from alignment.models import load_model
from alignment.pairs.tokens import TokenPair
from alignment.step import vocabulary
from alignment.step.pair_step import PairStep
from alignment.step.results import StepLogps
from alignment.step.rungs import RUNGS
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

PAIRS = [
    TokenPair("a", "ph_a", 1.0, prompt=[0, 40, 41, 42, 1], chosen=[50, 51, 1], rejected=[60, 61, 62, 63, 64, 65, 1]),
    TokenPair("b", "ph_b", 1.0, prompt=[0, 43], chosen=[52, 53, 54, 55, 56, 1], rejected=[1]),
    TokenPair("c", "ph_c", 1.0, prompt=[0, 44, 45], chosen=[1], rejected=[66, 67, 1]),
    TokenPair("d", "ph_d", 1.0, prompt=list(range(70, 90)), chosen=[5, 6, 7, 1], rejected=[8, 9, 10, 11, 12, 1]),
]
BASE = BaseModelRef(model="local/tiny", revision="0", weights_sha256="0")
TINY = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
HEADS = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", TINY | HEADS, "segments"),
    "qwen2": ("Qwen2Config", TINY | {"intermediate_size": 48, "num_key_value_heads": 2}, "segments"),
    "qwen3": ("Qwen3Config", TINY | HEADS, "segments"),
    "mistral, window of 6": ("MistralConfig", TINY | HEADS | {"sliding_window": 6}, "segments"),
    "gemma3, window of 4": ("Gemma3TextConfig", TINY | HEADS | {"sliding_window": 4}, "segments"),
    "qwen3 moe": (
        "Qwen3MoeConfig",
        TINY | HEADS | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
        "segments",
    ),
    # Caps so low that they change every score of these small random weights.
    "gemma2, soft caps": (
        "Gemma2Config",
        TINY | HEADS | {"sliding_window": 4, "attn_logit_softcapping": 0.1, "final_logit_softcapping": 0.2},
        "rows",
    ),
    "cohere, scaled logits": ("CohereConfig", TINY | {"intermediate_size": 48, "logit_scale": 0.3}, "segments"),
    "granite, divided logits": ("GraniteConfig", TINY | {"intermediate_size": 48, "logits_scaling": 0.3}, "segments"),
    "mixtral, auxiliary loss": (
        "MixtralConfig",
        TINY | HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2, "output_router_logits": True},
        "padded",
    ),
    "qwen3 next, linear attention": (
        "Qwen3NextConfig",
        TINY
        | HEADS
        | {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 24}
        | {"shared_expert_intermediate_size": 24, "linear_num_key_heads": 2, "linear_num_value_heads": 2}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]},
        "padded",
    ),
    "mamba": ("MambaConfig", {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2}, "padded"),
}


def with_adapter(model: Any) -> Any:
    """The model with an adapter whose matrices are all non-zero."""
    torch.manual_seed(1)
    adapted = attach_adapter(model, BASE, TrainingOptions(rank=4))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.1)
    return adapted.eval()


ONLY_FLOAT32 = (
    "qwen3 moe", "mixtral, auxiliary loss", "qwen3 next, linear attention", "mamba", "gemma2, soft caps",
)  # fmt: skip
"""Parts of these know no float64; eager attention takes its softmax in float32, where the mask of float64 overflows."""


def random_model(name: str, dtype: torch.dtype = torch.float64) -> Any:
    kind, fields, _ = ARCHITECTURES[name]
    torch.manual_seed(0)
    # SDPA would leave out the soft caps without a word; state spaces have no attention to choose.
    attention = "eager" if "softcapping" in str(fields) or name == "mamba" else "sdpa"
    config = getattr(transformers, kind)(**fields)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    # peft knows no adapter for state spaces; the scores are compared all the same.
    adapted = model.requires_grad_(False).eval() if name == "mamba" else with_adapter(model)
    return adapted.to(dtype)  # last: the very same weights in either precision


def plain_token_logps(model: Any, prompt: list[int], completion: list[int]) -> Tensor:
    """(P + C - 1,) log-probabilities of every token but the first, from full logits of one unpadded row."""
    ids = torch.tensor([prompt + completion])
    return model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)


def plain_means(model: Any) -> tuple[Tensor, Tensor, Tensor]:
    rows = [(plain_token_logps(model, pair.prompt, pair.chosen), len(pair.chosen)) for pair in PAIRS]
    others = [(plain_token_logps(model, pair.prompt, pair.rejected), len(pair.rejected)) for pair in PAIRS]
    chosen, rejected = (torch.stack([logps[-n:].mean() for logps, n in side]) for side in (rows, others))
    return chosen, rejected, torch.stack([-logps.mean() for logps, _ in rows])


def scored(model: Any, prompt: bool = True) -> StepLogps:
    step = PairStep(model, pad_id=7)
    return step.logps(model, step.collate(PAIRS), prompt=prompt)


def losses_and_gradients(model: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Figures and gradients of ours, then of the plain way."""
    logps, (chosen, rejected, whole) = scored(model), plain_means(model)
    ours = (logps.chosen.means, logps.rejected.means, likelihood(logps))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        return list(ours), [], [chosen, rejected, whole], []
    gradients = torch.autograd.grad(orpo_loss(*ours, 0.1).per_pair.mean(), trained)
    plain = torch.autograd.grad(orpo_loss(chosen, rejected, whole, 0.1).per_pair.mean(), trained)
    return list(ours), list(gradients), [chosen, rejected, whole], list(plain)


def apart(ours: list[Tensor], others: list[Tensor]) -> float:
    """The length of the difference, as a share of the length of the others."""
    pairs = list(zip(ours, others, strict=True))
    length = sum(float(other.double().square().sum()) for _, other in pairs)
    return (
        float((sum(float((one.double() - other).square().sum()) for one, other in pairs) / length) ** 0.5)
        if pairs
        else 0.0
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_scored_exactly_on_the_fastest_rung_it_can_stand_on(name: str) -> None:
    is_exact = name not in ONLY_FLOAT32
    model = random_model(name, torch.float64 if is_exact else torch.float32)
    assert PairStep(model, pad_id=7).rung == ARCHITECTURES[name][2]
    ours, gradients, plain, plain_gradients = losses_and_gradients(model)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7 if is_exact else 1e-5)
    assert bool(gradients) == (name != "mamba")
    assert apart(gradients, plain_gradients) < (1e-6 if is_exact else 1e-4)


@pytest.mark.parametrize("name", ["llama", "mistral, window of 6"])
def test_float32_is_as_good_as_float32_can_be(name: str) -> None:
    ours, gradients, _, _ = losses_and_gradients(random_model(name, torch.float32))
    _, _, exact, exact_gradients = losses_and_gradients(random_model(name))
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=5e-6, atol=0)
    assert apart(gradients, exact_gradients) < 1e-5


def test_a_rung_that_is_wrong_is_noticed_and_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(body: Any, batch: Any, targets: Any, _: int) -> Tensor:  # the rejected answer sees the chosen one
        ids = batch["input_ids"][None]
        hidden: Tensor = body(input_ids=ids, use_cache=False).last_hidden_state[0][targets.sources]
        return hidden

    wrong = dataclasses.replace(RUNGS["segments"], hidden=leaky, attention=lambda _: "sdpa")
    monkeypatch.setitem(RUNGS, "segments", wrong)
    step = PairStep(random_model("llama"), pad_id=7)
    assert step.rung == "rows"
    assert re.search(r"\(rows\).*not segments: log-probabilities differ by", step.reason)


def test_the_model_is_left_as_it_was(tiny_model: Path) -> None:
    model = load_model(tiny_model).train()
    before = model.config._attn_implementation
    assert PairStep(model, pad_id=7).rung == "segments"
    assert model.config._attn_implementation == before
    assert model.training


def test_small_blocks_of_logits_change_nothing(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_adapter(load_model(tiny_model)).double()
    whole = scored(model)
    monkeypatch.setattr(vocabulary, "_LOGIT_BLOCK_BYTES", 1)  # so 16 positions at a time
    for one, other in ((scored(model).chosen, whole.chosen), (scored(model).rejected, whole.rejected)):
        torch.testing.assert_close(one.sums, other.sums, rtol=0, atol=1e-12)


def test_scores_are_float32_even_for_a_bfloat16_model(tiny_model: Path) -> None:
    with torch.no_grad():
        logps = scored(load_model(tiny_model, torch.bfloat16))
    assert {logps.chosen.sums.dtype, logps.rejected.sums.dtype} == {torch.float32}
