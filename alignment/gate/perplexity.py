"""How likely general text is to a model: perplexity on fixed texts of our own, in English and in Chinese.

Full logits are never held: log-probabilities come block by block.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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


@torch.no_grad()
def perplexity(
    model: Any,
    tokenizer: Any,
    texts: Iterable[str],
    on_progress: OnProgress = untold,
    step: PairStep | None = None,
) -> float:
    """exp of the mean negative log-likelihood over every token but each text's first, all texts together."""
    ids = [tokenizer(text)["input_ids"] for text in texts]
    rows = [ScoredRow(text[:1], text[1:]) for text in ids if len(text) > 1]
    step, total, count = step or PairStep(model, pad_id(tokenizer)), 0.0, 0
    for start in range(0, len(rows), _TEXTS_AT_A_TIME):
        batch = to_device(collate(rows[start : start + _TEXTS_AT_A_TIME]), model.device)
        scored = step.logps(model, batch).chosen
        total -= float(scored.sums.double().sum())
        count += int(scored.counts.sum())
        on_progress(len(scored.counts))
    return math.exp(total / count)
