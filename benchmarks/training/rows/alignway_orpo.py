"""Alignway's trainer on the pairs, as `alignway train` runs it; option `rung` holds it to one rung of the step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ruler import StepClock, measure
from settings import Settings

from alignment.base_models.identity import describe
from alignment.gate.holdout import score_pairs
from alignment.models import load_model, load_renderer, load_tokenizer, pad_id
from alignment.pairs.read import read_pairs
from alignment.step.pair_step import PairStep
from alignment.training.loop import train_adapter
from alignment.training.watch import Watching
from gateway.contracts.training import TrainingOptions


def train(settings: Settings, clock: StepClock) -> Callable[[], Any]:
    """One pass; then our own evaluation."""
    _hold_rung(settings.options.get("rung"))
    folder = Path(settings.model)
    rendered = load_renderer(folder, settings.max_length).render_all(read_pairs(Path(settings.pairs)))
    assert not rendered.dropped
    model = load_model(folder, getattr(torch, settings.dtype))
    padding = pad_id(load_tokenizer(folder))
    options = TrainingOptions.model_validate(
        {"lambda": settings.lambda_, "nll": "prompt_and_chosen", "epochs": 1, "pairs_per_step": settings.pairs_per_step,
         "learning_rate": settings.learning_rate, "max_length_tokens": settings.max_length, "rank": settings.rank,
         "alpha": settings.alpha, "device": settings.device}
    )  # fmt: skip
    train_adapter(
        model, rendered.pairs, options, describe(folder), Path(settings.folder) / "run", pad_id=padding,
        watching=Watching(checkpoint_seconds=1e9, callbacks=(clock,)),
    )  # fmt: skip
    return lambda: score_pairs(model.eval(), rendered.pairs, padding)


def _hold_rung(rung: str | None) -> None:
    begin = PairStep.__init__

    def begin_held(self: PairStep, *given: Any) -> None:
        begin(self, *given)
        self.rung = rung or self.rung

    PairStep.__init__ = begin_held  # type: ignore[method-assign]


if __name__ == "__main__":
    measure(train)
