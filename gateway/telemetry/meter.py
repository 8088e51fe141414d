"""What is counted of the requests of one alias, release and key: plain additions, cheap enough for every request.

Knows nothing of Prometheus: `exposition.py` puts the numbers in its terms when somebody asks. Meters are msgspec
structs, so that a worker's numbers are written down, and read by the other workers, as they are.
"""

import time
from bisect import bisect_left

from msgspec import Struct, field

FIRST_TOKEN_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
OUTPUT_TOKEN_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
DURATION_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the buckets, in seconds; one more bucket holds what lies above the last."""
BUCKETS = 15


class Histogram(Struct, array_like=True):
    """How many values fell into each bucket, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    total: float = 0.0

    def observe(self, bounds: tuple[float, ...], value: float) -> None:
        """Count one value; a value on a bound belongs below it."""
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value

    def add(self, other: "Histogram") -> None:
        """Count what another one counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Meter(Struct, array_like=True):
    """The numbers of one alias, release and key. `began` when a request goes to an engine, `ended` once after it."""

    labels: tuple[str, str, str]
    """Alias, name of the release, name of the key."""
    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    first_token: Histogram = field(default_factory=Histogram)
    output_token: Histogram = field(default_factory=Histogram)
    duration: Histogram = field(default_factory=Histogram)
    used_at: float = field(default_factory=time.time)

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
        """The request is over: `finished`, `failed` or `aborted`. Times count from its arrival.

        `first_chunk_seconds` is None where nothing was streamed: a whole answer has no first token.
        """
        self.in_flight -= 1
        outcomes = self.outcomes
        outcomes[status] = outcomes.get(status, 0) + 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.duration.observe(DURATION_BOUNDS, total_seconds)
        if first_chunk_seconds is not None:
            self.first_token.observe(FIRST_TOKEN_BOUNDS, first_chunk_seconds)
            if completion_tokens > 1:
                after_first = total_seconds - first_chunk_seconds
                self.output_token.observe(OUTPUT_TOKEN_BOUNDS, after_first / (completion_tokens - 1))
        self.used_at = time.time()

    def add(self, other: "Meter") -> None:
        """Count what another worker counted for the same labels."""
        self.in_flight += other.in_flight
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        for status, requests in other.outcomes.items():
            self.outcomes[status] = self.outcomes.get(status, 0) + requests
        self.first_token.add(other.first_token)
        self.output_token.add(other.output_token)
        self.duration.add(other.duration)
        self.used_at = max(self.used_at, other.used_at)
