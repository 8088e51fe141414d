"""Measure a model on held-out pairs and on fixed text. Knows nothing of limits; see `decide.py`."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict

from alignment.gate.bootstrap import mean_interval
from alignment.pairs.tokens import TokenPair
from alignment.step.batch import to_device
from alignment.step.pair_step import PairStep
from gateway.contracts.release import Interval

PERPLEXITY_TEXTS = Path(__file__).parent / "texts" / "perplexity_en.txt"
_PAIRS_AT_A_TIME = 4


class PairScore(NamedTuple):
    """What a model thinks of one pair, in nats per token."""

    prompt_hash: str
    chosen_logp: float
    """Mean log-probability of the chosen completion's tokens."""
    rejected_logp: float


class HoldoutMetrics(BaseModel):
    """A model on held-out pairs, with 95 % intervals clustered by prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: int
    prompts: int
    accuracy: Interval
    """Share of pairs whose chosen completion has the higher mean log-probability."""
    margin: Interval
    """Mean of chosen minus rejected mean log-probability, nats per token."""
    chosen_nll: Interval
    """Mean negative log-likelihood of the chosen completions, nats per token, each pair counted alike."""


class HoldoutDifference(BaseModel):
    """Candidate minus incumbent on the same pairs, with 95 % intervals of the paired differences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: Interval
    margin: Interval
    chosen_nll: Interval


@torch.no_grad()
def score_pairs(model: Any, pairs: Sequence[TokenPair], pad_id: int) -> list[PairScore]:
    """Both sides of every pair under the model, in the order given. The model should be in evaluation mode."""
    step = PairStep(model, pad_id)
    by_length = sorted(range(len(pairs)), key=lambda index: len(pairs[index].prompt) + len(pairs[index].rejected))
    scores: dict[int, PairScore] = {}
    for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
        chosen = by_length[start : start + _PAIRS_AT_A_TIME]
        batch = step.collate([pairs[index] for index in chosen])
        logps = step.logps(model, to_device(batch, model.device))
        for index, lw, lr in zip(chosen, logps.chosen.means.tolist(), logps.rejected.means.tolist(), strict=True):
            scores[index] = PairScore(pairs[index].prompt_hash, lw, lr)
    return [scores[index] for index in range(len(pairs))]


def summarise(scores: Sequence[PairScore]) -> HoldoutMetrics:
    """The scores of at least one pair, summed up."""
    prompts = [score.prompt_hash for score in scores]
    accuracy, margin, nll = (mean_interval(values, prompts) for values in _figures(scores))
    return HoldoutMetrics(
        pairs=len(scores), prompts=len(set(prompts)), accuracy=accuracy, margin=margin, chosen_nll=nll
    )


def compare(candidate: Sequence[PairScore], incumbent: Sequence[PairScore]) -> HoldoutDifference:
    """Candidate minus incumbent, pair by pair; both scored the same pairs in the same order."""
    prompts = [score.prompt_hash for score in candidate]
    differences = (
        mean_interval([mine - theirs for mine, theirs in zip(ours, other, strict=True)], prompts)
        for ours, other in zip(_figures(candidate), _figures(incumbent), strict=True)
    )
    accuracy, margin, nll = differences
    return HoldoutDifference(accuracy=accuracy, margin=margin, chosen_nll=nll)


def _figures(scores: Sequence[PairScore]) -> tuple[list[float], list[float], list[float]]:
    return (
        [float(score.chosen_logp > score.rejected_logp) for score in scores],
        [score.chosen_logp - score.rejected_logp for score in scores],
        [-score.chosen_logp for score in scores],
    )


def perplexity_texts(path: Path = PERPLEXITY_TEXTS) -> list[str]:
    """The paragraphs of a text file, which blank lines part."""
    return [paragraph.strip() for paragraph in path.read_text(encoding="utf-8").split("\n\n") if paragraph.strip()]


@torch.no_grad()
def perplexity(model: Any, tokenizer: Any, texts: Iterable[str]) -> float:
    """exp of the mean negative log-likelihood over every token but each text's first, all texts together."""
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return math.exp(total / count)
