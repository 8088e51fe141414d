"""Every rung against the plain way; flex attention uncompiled, and another attention in place of flash-attention."""

import dataclasses
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, LlamaConfig, MambaConfig, MixtralConfig, Qwen3NextConfig

from alignment.losses.orpo import likelihood, orpo_loss
from alignment.step.pair_step import PairStep
from alignment.step.rungs import RUNGS, offered, why_only_padded
from tests.alignment.step.test_pair_step import (
    ARCHITECTURES,
    ONLY_FLOAT32,
    PAIRS,
    apart,
    plain_means,
    random_model,
)

SHARING = [name for name, (_, _, rung) in ARCHITECTURES.items() if rung != "padded"]


@pytest.fixture
def flex_backward_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch refuses it for want of a fused kernel; the plain form that runs without compilation can do it."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)


def attend_by_bounds(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: None, *, cu_seq_lens_q: Tensor, scaling: float,
    sliding_window: int | None = None, softcap: float | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What flash-attention makes of `cu_seq_lens`, in the long way: each run for itself, causal."""
    key, value = (side.repeat_interleave(query.shape[1] // side.shape[1], dim=1) for side in (key, value))
    heard = []
    bounds = cu_seq_lens_q.tolist()
    for start, end in pairwise(bounds):
        own = slice(start, end)
        scores = query[:, :, own] @ key[:, :, own].transpose(2, 3) * scaling
        scores = softcap * torch.tanh(scores / softcap) if softcap else scores
        seen = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        seen = seen.triu(1 - sliding_window) if sliding_window else seen
        heard.append(scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value[:, :, own])
    return torch.cat(heard, dim=2).transpose(1, 2).contiguous(), None


@pytest.fixture
def flash_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    AttentionInterface.register("test_by_bounds", attend_by_bounds)
    by_hand = dataclasses.replace(RUNGS["varlen"], attention=lambda _: "test_by_bounds")
    monkeypatch.setitem(RUNGS, "varlen", by_hand)


@pytest.mark.usefixtures("flex_backward_on_cpu", "flash_by_hand")
@pytest.mark.parametrize("name", SHARING)
def test_every_rung_says_the_same_as_full_logits_of_each_row_alone(name: str) -> None:
    is_exact = name not in ONLY_FLOAT32
    model = random_model(name, torch.float64 if is_exact else torch.float32)
    plain = plain_means(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(orpo_loss(*plain, 0.1).per_pair.mean(), trained)
    step = PairStep(model, pad_id=7)
    for rung in RUNGS:
        if (name, rung) == ("gemma2, soft caps", "segments"):
            continue  # segments know no soft caps
        step.rung = rung
        logps = step.logps(model, step.collate(PAIRS), prompt=True)
        ours = (logps.chosen.means, logps.rejected.means, likelihood(logps))
        for one, other in zip(ours, plain, strict=True):
            torch.testing.assert_close(
                one, other, rtol=0, atol=1e-7 if is_exact else 1e-5, msg=lambda said, rung=rung: f"{rung}: {said}"
            )
        own = torch.autograd.grad(orpo_loss(*ours, 0.1).per_pair.mean(), trained)
        assert apart(list(own), list(gradients)) < (1e-6 if is_exact else 1e-4), rung


def test_without_its_mask_the_rejected_answer_of_a_row_loses_its_prompt_and_the_rung_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alignment.step.rows._masks", lambda *_: None)
    monkeypatch.delitem(RUNGS, "segments")
    monkeypatch.setattr("alignment.step.pair_step.offered", lambda *_: ["rows"])
    step = PairStep(random_model("llama"), pad_id=7)
    assert step.rung == "padded"
    assert step.reason.startswith("pairs padded: not rows: log-probabilities differ by")


def test_a_window_far_longer_than_the_trial_is_tried_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        ARCHITECTURES, "long window", ("MistralConfig", ARCHITECTURES["llama"][1] | {"sliding_window": 4096}, "")
    )
    model = random_model("long window")
    before = (model.config.sliding_window, PairStep(model, pad_id=7).rung, model.config.sliding_window)
    assert before == (4096, "segments", 4096)
    monkeypatch.setattr("alignment.step.flat._mask", lambda asking, heard, window, device: no_window(asking, heard))
    assert "not segments: log-probabilities differ by" in PairStep(model, pad_id=7).reason


def no_window(asking: int, heard: int) -> Tensor:
    return torch.ones(asking, heard, dtype=torch.bool).tril(heard - asking)


def test_a_gpu_is_offered_fused_attention_first_and_flash_attention_in_half_precision_only() -> None:
    plain, dropping = SimpleNamespace(attention_dropout=0.0), SimpleNamespace(attention_dropout=0.1)
    half, single = torch.bfloat16, torch.float32
    assert offered("cuda", half, plain, True) == ["flex", "segments", "rows", "varlen"]
    assert offered("cuda", single, plain, True) == ["flex", "segments", "rows"]
    assert offered("cuda", half, plain, False) == ["flex", "segments", "rows"]
    assert offered("cuda", half, dropping, True) == ["segments", "rows", "varlen"]
    assert offered("cpu", half, plain, True) == ["segments", "rows"]
    assert offered("npu", half, plain, False) == ["segments", "rows"]


def known(config: Any, **fields: Any) -> Any:
    return type("Model", (SimpleNamespace,), {"__module__": fields.pop("module", "transformers")})(
        config=config, **fields
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mamba", "pairs padded: it has state space or linear attention layers"),
        ("qwen3 next, linear attention", "pairs padded: it has state space or linear attention layers"),
        ("mixtral, auxiliary loss", "pairs padded: output_router_logits is set"),
        ("gemma2, soft caps", "came out as it does padded; not segments: its attention has softcap"),
        ("cohere, scaled logits", "pairs end to end, each prompt once (segments)"),
    ],
)
def test_a_step_says_in_words_why_it_stands_where_it_does(name: str, words: str) -> None:
    assert words in PairStep(random_model(name, torch.float32), pad_id=7).reason


def test_who_stays_on_the_padded_rung_is_told_why() -> None:
    assert why_only_padded(known(LlamaConfig())) is None
    assert why_only_padded(known(MixtralConfig())) is None
    reasons = {
        "state space or linear attention": known(MambaConfig(), _is_stateful=True),
        "output_router_logits is set": known(MixtralConfig(output_router_logits=True)),
        "only known padded (linear attention)": known(Qwen3NextConfig()),
        "only known padded (chunked attention)": known(LlamaConfig(attention_chunk_size=8192)),
        "its code came with its files": known(LlamaConfig(), module="transformers_modules.org.name.modeling"),
    }
    for words, model in reasons.items():
        assert words in str(why_only_padded(model))
