"""How many optimiser steps a run has. Pure; the trainer plans by it, and the dry run foretells by it."""

import math

from gateway.contracts.training import TrainingOptions

AUTO_STEPS_WANTED = 24
AUTO_EPOCHS_MOST = 3.0


def epochs_of(options: TrainingOptions, pair_count: int) -> float:
    """Passes over `pair_count` training pairs: as asked, or enough for some steps, at least 1 and at most 3."""
    if options.epochs != "auto":
        return options.epochs
    return min(AUTO_EPOCHS_MOST, max(1.0, AUTO_STEPS_WANTED / (pair_count / options.pairs_per_step)))


def steps_of(options: TrainingOptions, pair_count: int) -> int:
    """Optimiser steps over `pair_count` (at least 1) training pairs."""
    steps = max(1, math.ceil(epochs_of(options, pair_count) * (pair_count / options.pairs_per_step)))
    return steps if options.max_steps is None else min(steps, options.max_steps)
