"""From options and the size of the data set to the numbers of a run. Pure; every choice comes with its reason."""

import math
from dataclasses import dataclass

from gateway.contracts.pace import AUTO_EPOCHS_MOST, AUTO_STEPS_WANTED, epochs_of, steps_of
from gateway.contracts.training import TrainingOptions

AUTO_LEARNING_RATE = 2e-4
"""Measured on SmolLM2-135M with 24 steps of 4 pairs that want short answers: 3e-4 made general text 6 to 7 % more
perplexing, past the gate's limit of 5 %. Answers sampled below temperature 1 cost most: learning from them narrows the
whole distribution."""
_LARGER_MODELS = ((4e9, 5e-5), (1e9, 1e-4))
"""From so many parameters on, the usual rate for LoRA; not measured here."""
WARMUP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Schedule:
    """The numbers of one run."""

    steps: int
    """Optimiser steps in all."""
    pairs_per_step: int
    steps_per_epoch: float
    learning_rate: float
    """Peak, reached after the warm-up; then a cosine down to 0."""
    warmup_steps: int
    reasons: tuple[str, ...]
    """Why each number is what it is, a sentence each."""


def schedule(options: TrainingOptions, pair_count: int, parameters: int = 0) -> Schedule:
    """The run that `options` ask for over `pair_count` (at least 1) training pairs, on a model of so many numbers."""
    steps_per_epoch = pair_count / options.pairs_per_step
    learning_rate, rate_reason = _learning_rate(options, parameters)
    reasons = [_why_epochs(options, pair_count), rate_reason]
    steps, all_steps = (steps_of(one, pair_count) for one in (options, options.model_copy(update={"max_steps": None})))
    if steps < all_steps:
        reasons.append(f"stop after {steps} steps: max_steps asks for it")
    warmup_steps = min(steps - 1, max(1, round(WARMUP_SHARE * steps)))
    reasons.append(f"{steps} steps of {options.pairs_per_step} pairs, the first {warmup_steps} warming up")
    return Schedule(steps, options.pairs_per_step, steps_per_epoch, learning_rate, warmup_steps, tuple(reasons))


def rate_share(step: int, steps: int, warmup_steps: int) -> float:
    """The share of the peak learning rate at optimiser step `step`, counted from 0: a rising line, then half a cosine.

    The first step already moves, and the last one still does.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps)))


def _why_epochs(options: TrainingOptions, pair_count: int) -> str:
    epochs = epochs_of(options, pair_count)
    if options.epochs != "auto":
        return f"{epochs:g} epochs: as asked"
    return (
        f"{epochs:.2g} epochs: enough for about {AUTO_STEPS_WANTED} steps at "
        f"{pair_count / options.pairs_per_step:g} steps an epoch, at least 1 and at most {AUTO_EPOCHS_MOST:g}"
    )


def _learning_rate(options: TrainingOptions, parameters: int) -> tuple[float, str]:
    rate, reason = _plain_rate(options, parameters)
    if options.learning_rate_multiplier == 1.0:
        return rate, reason
    rate *= options.learning_rate_multiplier
    return rate, f"{reason}; times {options.learning_rate_multiplier:g}, as asked: {rate:g}"


def _plain_rate(options: TrainingOptions, parameters: int) -> tuple[float, str]:
    if options.learning_rate != "auto":
        return options.learning_rate, f"learning rate {options.learning_rate:g}: as asked"
    for size, rate in _LARGER_MODELS:
        if parameters >= size:
            return rate, f"learning rate {rate:g}: usual for a model of {parameters / 1e9:.1f} billion parameters"
    return AUTO_LEARNING_RATE, (
        f"learning rate {AUTO_LEARNING_RATE:g}: where it was tried, half as much again cost general text too much"
    )
