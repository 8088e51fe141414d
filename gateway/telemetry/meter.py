"""What is counted of the requests of one alias, release and key: plain additions, cheap enough for every request.

Knows nothing of Prometheus: `exposition.py` turns the numbers into its terms when somebody asks for them.
"""

import time
from bisect import bisect_left

FIRST_TOKEN_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
OUTPUT_TOKEN_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
DURATION_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
WAIT_BOUNDS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the buckets, in seconds; one more bucket holds what lies above the last."""


class Histogram:
    """How many values fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; a value on a bound belongs below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Meter:
    """The numbers of one alias, release and key. `began` when a request goes to an engine, `ended` once after it."""

    __slots__ = (
        "completion_tokens",
        "first_token",
        "in_flight",
        "labels",
        "outcomes",
        "output_token",
        "prompt_tokens",
        "total",
        "used_at",
    )

    def __init__(self, alias: str, release_name: str, key_name: str) -> None:
        self.labels = (alias, release_name, key_name)
        self.outcomes: dict[str, int] = {}
        self.prompt_tokens = self.completion_tokens = self.in_flight = 0
        self.first_token = Histogram(FIRST_TOKEN_BOUNDS)
        self.output_token = Histogram(OUTPUT_TOKEN_BOUNDS)
        self.total = Histogram(DURATION_BOUNDS)
        self.used_at = time.time()

    def began(self) -> None:
        """A request goes to an engine."""
        self.in_flight += 1

    def ended(
        self,
        status: str,
        prompt_tokens: int,
        completion_tokens: int,
        first_chunk_seconds: float | None,
        total_seconds: float,
    ) -> None:
        """The request is over: `finished`, `failed` or `aborted`. Times count from its arrival."""
        self.in_flight -= 1
        outcomes = self.outcomes
        outcomes[status] = outcomes.get(status, 0) + 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.total.observe(total_seconds)
        if first_chunk_seconds is not None:
            self.first_token.observe(first_chunk_seconds)
            if completion_tokens > 1:
                self.output_token.observe((total_seconds - first_chunk_seconds) / (completion_tokens - 1))
        self.used_at = time.time()
