"""Notice that a run is destroying the model, and stop it while the last checkpoint is still good."""

import math

from alignment.errors import TrainingDiverged
from alignment.training.records import Metrics

_STEPS_IN_A_ROW = 3
_MOST_LOG_ODDS = 25.0
_MOST_KL = 5.0


class DivergenceGuard:
    """Looks at every step's metrics."""

    def __init__(self, vocabulary: int) -> None:
        """`vocabulary`: its size; a model that finds its chosen answers less likely than chance has lost its way."""
        self._limits = {
            "nll": (math.log(vocabulary), "the chosen answers are less likely than tokens drawn blindly"),
            "log_odds_ratio": (_MOST_LOG_ODDS, "the odds of the two sides are running apart"),
            "kl": (_MOST_KL, "the model is leaving its base"),
        }
        self._beyond = dict.fromkeys(self._limits, 0)

    @property
    def is_calm(self) -> bool:
        """Whether no figure is beyond its limit just now: what is saved meanwhile can be gone on with."""
        return not any(self._beyond.values())

    def check(self, metrics: Metrics, step: int) -> None:
        """Raise `TrainingDiverged` at once if a figure is not finite, or once one was beyond its limit three times."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise TrainingDiverged(_said(f"{name} became {value} at step {step}"))
        for name, (limit, meaning) in self._limits.items():
            is_beyond = abs(metrics.get(name, 0.0)) > limit
            self._beyond[name] = self._beyond[name] + 1 if is_beyond else 0
            if self._beyond[name] == _STEPS_IN_A_ROW:
                raise TrainingDiverged(
                    _said(f"{name} was beyond {limit:.3g} for {_STEPS_IN_A_ROW} steps, until step {step}: {meaning}")
                )


def _said(what: str) -> str:
    return f"{what}; lower the learning rate, or look for broken pairs near that step in the metrics file"
