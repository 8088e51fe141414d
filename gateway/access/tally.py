"""What keys and end users used, added up in memory until it is written down. Knows no database."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

MAX_ENTRIES = 100_000
"""Once so many wait to be written down (the database must be away), further end users are counted as none."""


class UsageOf(NamedTuple):
    """Whose usage, and when."""

    month: str
    """UTC, such as `2026-11`."""
    key_id: str
    project_id: str
    end_user_hash: str
    """Empty for requests that named no end user."""


class UsageTally:
    """Counts in memory: requests, prompt tokens and completion tokens by `UsageOf`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._counts: dict[UsageOf, list[int]] = {}
        self._month, self._month_starts, self._month_ends = "", 0.0, 0.0

    def add(
        self, key_id: str, project_id: str, end_user_hash: str | None, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Count one answered request."""
        now = self._clock()
        if not self._month_starts <= now < self._month_ends:
            self._month, self._month_starts, self._month_ends = month_of(now)
        whose = UsageOf(self._month, key_id, project_id, end_user_hash or "")
        counts = self._counts.get(whose)
        if counts is None and len(self._counts) >= MAX_ENTRIES:
            whose = whose._replace(end_user_hash="")
            counts = self._counts.get(whose)
        if counts is None:
            self._counts[whose] = [1, prompt_tokens, completion_tokens]
            return
        counts[0] += 1
        counts[1] += prompt_tokens
        counts[2] += completion_tokens

    def take(self) -> dict[UsageOf, list[int]]:
        """Everything counted since the last call."""
        counts, self._counts = self._counts, {}
        return counts

    def put_back(self, counts: dict[UsageOf, list[int]]) -> None:
        """Count again what was taken and could not be written down."""
        for whose, (requests, prompt_tokens, completion_tokens) in counts.items():
            mine = self._counts.setdefault(whose, [0, 0, 0])
            mine[0] += requests
            mine[1] += prompt_tokens
            mine[2] += completion_tokens


def month_of(at: float) -> tuple[str, float, float]:
    """The UTC month of a moment, and the moments it starts and ends."""
    first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return f"{first:%Y-%m}", first.timestamp(), following.timestamp()
