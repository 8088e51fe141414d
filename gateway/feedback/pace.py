"""How many votes a key, a rater and an address may send in a minute. Each worker counts for itself, an even share."""

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import RateLimited
from gateway.settings import FeedbackSettings

WINDOW_SECONDS = 60.0
MAX_COUNTED = 100_000
"""Names that are counted at once; beyond this, those that were silent longest are forgotten."""


class VotePace:
    """The votes of the last minute, by who sent them: a bucket that fills evenly up to one minute's votes."""

    def __init__(self, settings: FeedbackSettings, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = {
            "key": settings.votes_per_minute_per_key,
            "rater": settings.votes_per_minute_per_rater,
            "address": settings.votes_per_minute_per_address,
        }
        self._workers = workers
        self._clock = clock
        self._left: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        """Votes that are left, and when that was so."""

    def count(self, **names: str | None) -> None:
        """Count a vote of this `key`, `rater` and `address`. Raises `RateLimited` if one of them has none left."""
        now = self._clock()
        asked = [(kind, name, limit) for kind, name in names.items() if name and (limit := self._limits[kind])]
        for kind, name, limit in asked:
            left = self._left_of(kind, name, limit, now)
            if left < 1:
                seconds = (1 - left) * WINDOW_SECONDS / self._share(limit)
                error = RateLimited(
                    f"This {kind} has sent {limit} votes within a minute, which is its limit "
                    f"(`feedback.votes_per_minute_per_{kind}`). Try again in {seconds:.0f} s.",
                    code="too_many_votes",
                )
                error.retry_after_seconds = seconds
                raise error
        for kind, name, limit in asked:
            self._left[kind, name] = self._left_of(kind, name, limit, now) - 1, now
            self._left.move_to_end((kind, name))
        while len(self._left) > MAX_COUNTED:
            self._left.popitem(last=False)

    def _left_of(self, kind: str, name: str, limit: int, now: float) -> float:
        share = self._share(limit)
        left, at = self._left.get((kind, name), (share, now))
        return min(share, left + (now - at) * share / WINDOW_SECONDS)

    def _share(self, limit: int) -> float:
        return max(1.0, limit / self._workers)
