"""Would a data set frozen now be large enough for a run that nobody asked for? Counted beside everything else.

Counting a million votes takes longer than the reconciler may stand still, so there is no answer until it is known.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog

from gateway.datasets.collect import count_usable
from gateway.redaction.configured import training_redaction
from gateway.rollout.triggers import PairCounts
from gateway.settings import AlignerSettings, Settings
from gateway.storage.database import Database

FRESH_SECONDS = 60.0
"""That there is enough is believed for so long."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Usable:
    """How many pairs a data set would hold, and of how many eligible ones."""

    train: int
    holdout: int
    of: PairCounts
    counted_at: float
    """By the monotonic clock."""

    def is_enough(self, settings: AlignerSettings) -> bool:
        """Whether a run may start by itself."""
        return self.train >= settings.auto_min_train_pairs and self.holdout >= settings.auto_min_holdout_pairs

    def may_be_enough(self, settings: AlignerSettings, eligible: PairCounts) -> bool:
        """Whether it can have become enough since: of each new pair at most one is usable."""
        train = self.train + eligible.train - self.of.train
        holdout = self.holdout + eligible.holdout - self.of.holdout
        return Usable(train, holdout, eligible, self.counted_at).is_enough(settings)


class UsableCounts:
    """What is known of every alias."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._known: dict[str, Usable] = {}
        self._counting: dict[str, asyncio.Task[None]] = {}

    def is_enough(self, alias: str, eligible: PairCounts) -> bool | None:
        """Whether it is; None while that is being counted: then it is known at one of the next calls."""
        known, settings = self._known.get(alias), self._settings.aligner
        if alias in self._counting:
            return None
        if known is not None and known.is_enough(settings) and time.monotonic() - known.counted_at < FRESH_SECONDS:
            return True
        if known is not None and not known.may_be_enough(settings, eligible):
            return False
        self._counting[alias] = asyncio.create_task(self._count(alias, eligible), name=f"usable-pairs-{alias}")
        return None

    async def settled(self) -> None:
        """Wait until nothing is being counted."""
        await asyncio.gather(*self._counting.values())

    async def close(self) -> None:
        """Stop counting."""
        for task in self._counting.values():
            task.cancel()
        await asyncio.gather(*self._counting.values(), return_exceptions=True)

    async def _count(self, alias: str, eligible: PairCounts) -> None:
        settings = self._settings.aligner
        try:
            redact = training_redaction(self._settings.privacy)
            sides = await count_usable(self._database, alias, self._settings.datasets, redact)
        except Exception:
            log.exception("pairs_not_counted", alias=alias)
            return
        finally:
            del self._counting[alias]
        usable = self._known[alias] = Usable(sides["train"], sides["holdout"], eligible, time.monotonic())
        if not usable.is_enough(settings):
            needed = {"train": settings.auto_min_train_pairs, "holdout": settings.auto_min_holdout_pairs}
            log.info("run_waits_for_pairs", alias=alias, train=usable.train, holdout=usable.holdout, needed=needed)
