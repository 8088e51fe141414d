"""Measure models on held-out pairs: which side each prefers, by how much, and how far it moved from the base.

Knows nothing of limits; see `decide.py`. Full logits are never held: log-probabilities and KL come block by block.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from alignment.gate.bootstrap import ratio_interval
from alignment.gate.comparison import Sides, compared
from alignment.gate.items import LEAST_MATCHED_PAIRS
from alignment.gate.progress import OnProgress, untold
from alignment.pairs.tokens import TokenPair
from alignment.step.batch import to_device
from alignment.step.pair_step import PairStep
from alignment.step.results import StepLogps
from gateway.contracts.release import Interval

LENGTH_MATCH_SHARE = 0.2
"""Two completions are of one length if they differ by at most this share of the longer one's tokens."""
_PAIRS_AT_A_TIME = 4


class PairScore(NamedTuple):
    """What a model thinks of one pair, in nats per token."""

    prompt_hash: str
    chosen_logp: float
    """Mean log-probability of the chosen completion's tokens."""
    rejected_logp: float


class Divergence(NamedTuple):
    """KL(model || base) over the tokens of one answer, or of both completions of a pair; exact over the vocabulary."""

    nats: float
    """The sum over those tokens."""
    tokens: int


class BesideBase(NamedTuple):
    """An adapted model and its base on the same pairs."""

    own: list[PairScore]
    base: list[PairScore]
    divergence: list[Divergence]


def score_pairs(
    model: Any,
    pairs: Sequence[TokenPair],
    pad_id: int,
    on_progress: OnProgress = untold,
    step: PairStep | None = None,
) -> list[PairScore]:
    """Both sides of every pair under the model, in the order given. The model should be in evaluation mode.

    `step`: made for this model before; without one it is made here, which costs a trial pair.
    """
    scores: dict[int, PairScore] = {}
    for index, logps, row in _rows(step or PairStep(model, pad_id), model, pairs, on_progress, with_base=False):
        scores[index] = _score(pairs[index], logps, row)
    return [scores[index] for index in range(len(pairs))]


def score_beside_base(
    model: Any,
    pairs: Sequence[TokenPair],
    pad_id: int,
    on_progress: OnProgress = untold,
    step: PairStep | None = None,
) -> BesideBase:
    """As `score_pairs`, and the same of the model without its adapter, and the KL between the two."""
    found: dict[int, tuple[PairScore, PairScore, Divergence]] = {}
    for index, logps, row in _rows(step or PairStep(model, pad_id), model, pairs, on_progress, with_base=True):
        assert logps.reference is not None
        assert logps.divergence is not None
        divergence = Divergence(float(logps.divergence.sums[row]), int(logps.divergence.counts[row]))
        found[index] = (_score(pairs[index], logps, row), _score(pairs[index], logps.reference, row), divergence)
    own, base, divergences = ([found[index][part] for index in range(len(pairs))] for part in range(3))
    return BesideBase(own, base, divergences)  # type: ignore[arg-type]


def holdout_metrics(pairs: Sequence[TokenPair], sides: Sides[Sequence[PairScore]]) -> dict[str, Interval]:
    """Accuracy, margin and likelihood of each model on at least one pair, and their paired differences."""
    prompts = [pair.prompt_hash for pair in pairs]
    found: dict[str, Interval] = {}
    for name, figure in (("accuracy", prefers_chosen), ("margin", margin), ("chosen_nll", chosen_nll)):
        found |= compared(f"holdout_{name}", sides.map(partial(_each, figure)), prompts)
    matched = length_matched(pairs)
    if len(matched) >= LEAST_MATCHED_PAIRS:
        of_matched = sides.map(lambda scores: [prefers_chosen(scores[index]) for index in matched])
        found |= compared("holdout_matched_accuracy", of_matched, [prompts[index] for index in matched])
    return found


def kl_to_base(pairs: Sequence[TokenPair], divergences: Sequence[Divergence]) -> Interval:
    """Mean KL(model || base) per completion token, in nats; clustered by prompt."""
    sums, tokens = zip(*divergences, strict=True)
    return ratio_interval(sums, tokens, [pair.prompt_hash for pair in pairs])


def length_matched(pairs: Sequence[TokenPair]) -> list[int]:
    """The places of the pairs whose completions are of one length: there, being longer cannot be the reason."""
    sizes = [(len(pair.chosen), len(pair.rejected)) for pair in pairs]
    return [index for index, size in enumerate(sizes) if max(size) - min(size) <= LENGTH_MATCH_SHARE * max(size)]


def prefers_chosen(score: PairScore) -> float:
    """1 if the chosen completion has the higher mean log-probability, else 0; a tie is no success."""
    return float(score.chosen_logp > score.rejected_logp)


def margin(score: PairScore) -> float:
    """Chosen minus rejected mean log-probability: nats per token, so that length has no part in it."""
    return score.chosen_logp - score.rejected_logp


def chosen_nll(score: PairScore) -> float:
    """Mean negative log-likelihood of the chosen completion, nats per token."""
    return -score.chosen_logp


def _each(figure: Callable[[PairScore], float], scores: Sequence[PairScore]) -> list[float]:
    return [figure(score) for score in scores]


@torch.no_grad()
def _rows(
    step: PairStep, model: Any, pairs: Sequence[TokenPair], on_progress: OnProgress, with_base: bool
) -> Iterator[tuple[int, StepLogps, int]]:
    """The place of every pair, the figures of its batch, and its row there; pairs of like length go together."""
    by_length = sorted(range(len(pairs)), key=lambda index: len(pairs[index].prompt) + len(pairs[index].rejected))
    for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
        places = by_length[start : start + _PAIRS_AT_A_TIME]
        batch = to_device(step.collate([pairs[index] for index in places]), model.device)
        logps = step.logps(model, batch, reference=with_base, divergence=with_base)
        yield from ((index, logps, row) for row, index in enumerate(places))
        on_progress(len(places))


def _score(pair: TokenPair, logps: StepLogps, row: int) -> PairScore:
    return PairScore(pair.prompt_hash, float(logps.chosen.means[row]), float(logps.rejected.means[row]))
