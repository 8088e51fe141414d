"""Notice that a run is destroying the model, and stop it while the last checkpoint is still good."""

import math

from alignment.errors import TrainingDiverged
from alignment.training.records import Metrics

_STEPS_IN_A_ROW = 3
_MOST_LOG_ODDS = 25.0
_MOST_KL = 5.0
_NATS_LOST = 1.0


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
        self._lowest_nll = math.inf
        self._doubtful_since: int | None = None

    @property
    def is_calm(self) -> bool:
        """Whether all figures are within their limits just now; what is saved otherwise is hardly worth keeping."""
        return self._doubtful_since is None

    def is_good(self, saved_step: int) -> bool:
        """Whether what was saved after that step was found well by a later one: a step sees the update before it."""
        return self._doubtful_since is None or saved_step < self._doubtful_since - 1

    def check(self, metrics: Metrics, step: int) -> None:
        """Raise `TrainingDiverged` at once if a figure is not finite, or once one was beyond its limit three times.

        A step's figures may come in parts.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                self._doubtful_since = self._doubtful_since or step
                raise TrainingDiverged(_said(f"{name} became {value} at step {step}"))
        self._lowest_nll = min(self._lowest_nll, metrics.get("nll", math.inf))
        for name in self._limits.keys() & metrics.keys():
            self._beyond[name] = self._beyond[name] + 1 if abs(metrics[name]) > self._limit(name) else 0
        self._doubtful_since = (self._doubtful_since or step) if any(self._beyond.values()) else None
        for name, count in self._beyond.items():
            if count == _STEPS_IN_A_ROW:
                limit, meaning = self._limit(name), self._limits[name][1]
                raise TrainingDiverged(
                    _said(f"{name} was beyond {limit:.3g} for {_STEPS_IN_A_ROW} steps, until step {step}: {meaning}")
                )

    def _limit(self, name: str) -> float:
        """A model that began worse than chance (an untrained one, a foreign script) is not destroyed by the run."""
        limit = self._limits[name][0]
        return max(limit, self._lowest_nll + _NATS_LOST) if name == "nll" else limit


def _said(what: str) -> str:
    return f"{what}; lower the learning rate, or look for broken pairs near that step in the metrics file"
