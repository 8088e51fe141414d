"""How likely general text is to a model: perplexity on fixed texts of our own, in English and in Chinese.

Full logits are never held: log-probabilities come block by block.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from alignment.gate.progress import OnProgress, untold
from alignment.gate.rows import ScoredRow
from alignment.models import pad_id
from alignment.step.batch import collate, to_device
from alignment.step.pair_step import PairStep

_TEXTS_AT_A_TIME = 4
_FOLDER = Path(__file__).parent / "texts"


def perplexity_texts(language: str = "en") -> list[str]:
    """Our own texts in `en` or `zh`."""
    return read_paragraphs(_FOLDER / f"perplexity_{language}.txt")


def read_paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file, which blank lines part."""
    return [paragraph.strip() for paragraph in path.read_text(encoding="utf-8").split("\n\n") if paragraph.strip()]


class TextScore(NamedTuple):
    """How unlikely one text is."""

    nats: float
    """Negative log-likelihood, summed over every token but the first."""
    tokens: int


@torch.no_grad()
def score_texts(
    model: Any,
    tokenizer: Any,
    texts: Iterable[str],
    on_progress: OnProgress = untold,
    step: PairStep | None = None,
) -> list[TextScore]:
    """Every text that has something to predict, in the order given."""
    ids = [tokenizer(text)["input_ids"] for text in texts]
    rows = [ScoredRow(text[:1], text[1:]) for text in ids if len(text) > 1]
    step, found = step or PairStep(model, pad_id(tokenizer)), list[TextScore]()
    for start in range(0, len(rows), _TEXTS_AT_A_TIME):
        batch = to_device(collate(rows[start : start + _TEXTS_AT_A_TIME]), model.device)
        scored = step.logps(model, batch).chosen
        sums, counts = (-scored.sums.double()).tolist(), scored.counts.tolist()
        found += [TextScore(*one) for one in zip(sums, counts, strict=True)]
        on_progress(len(counts))
    return found


def perplexity_of(scores: Iterable[TextScore]) -> float:
    """exp of the mean negative log-likelihood per token, all texts together."""
    scores = list(scores)
    return math.exp(sum(score.nats for score in scores) / sum(score.tokens for score in scores))


def perplexity(
    model: Any,
    tokenizer: Any,
    texts: Iterable[str],
    on_progress: OnProgress = untold,
    step: PairStep | None = None,
) -> float:
    """Perplexity over every token but each text's first, all texts together."""
    return perplexity_of(score_texts(model, tokenizer, texts, on_progress, step))
