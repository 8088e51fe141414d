"""How far a candidate's own greedy answers lie from the base: KL at their tokens, and which read otherwise."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from alignment.gate.answers import Answer
from alignment.gate.bootstrap import ratio_interval
from alignment.gate.comparison import Sides
from alignment.gate.holdout import Divergence
from alignment.gate.progress import OnProgress, untold
from alignment.gate.rows import ScoredRow
from alignment.step.batch import to_device
from alignment.step.pair_step import PairStep
from gateway.contracts.release import Interval

_ROWS_AT_A_TIME = 4


def answered_rows(prompts: Sequence[Sequence[int]], answers: Sequence[Answer], end_id: int) -> list[ScoredRow]:
    """Prompts with their answers, the end token among them where the model wrote one."""
    completions = ([*answer.tokens, *([end_id] if answer.ended else [])] for answer in answers)
    rows = zip(prompts, completions, strict=True)
    return [ScoredRow(list(prompt), completion) for prompt, completion in rows if completion]


@torch.no_grad()
def answers_divergence(
    model: Any, rows: Sequence[ScoredRow], step: PairStep, on_progress: OnProgress = untold
) -> list[Divergence]:
    """KL(model || base) over the tokens of each answer, exact over the vocabulary."""
    found: list[Divergence] = []
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        batch = to_device(step.collate(rows[start : start + _ROWS_AT_A_TIME]), model.device)
        divergence = step.logps(model, batch, divergence=True).divergence
        assert divergence is not None
        sums, counts = divergence.sums.tolist(), divergence.counts.tolist()
        found += [Divergence(*one) for one in zip(sums, counts, strict=True)]
        on_progress(len(counts))
    return found


def answers_kl(divergences: Sequence[Divergence]) -> Interval:
    """Mean KL(model || base) per token of the answers, in nats; a cluster per prompt."""
    sums, counts = zip(*divergences, strict=True)
    return ratio_interval(sums, counts, [str(place) for place in range(len(divergences))])


def changed_shares(answers: Sides[Sequence[Answer]]) -> dict[str, float]:
    """The share of the candidate's answers that read otherwise than the incumbent's and the base's."""
    return dict(_changed(answers))


def _changed(answers: Sides[Sequence[Answer]]) -> Iterator[tuple[str, float]]:
    for name, other in (("incumbent", answers.rival), ("base", answers.base)):
        if other is not None:
            differing = sum(mine.text != theirs.text for mine, theirs in zip(answers.candidate, other, strict=True))
            yield f"answers_changed_{name}", differing / len(other)
