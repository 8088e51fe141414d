"""How much is measured, and how the load is kept within what a gateway can bear. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The lengths and sizes of a run's parts."""

    connections: int = 64
    """Of the closed loop."""
    rounds: int = 2
    """All gateways are measured in turn, so often: a machine that slows down slows all of them."""
    windows: int = 2
    """Each part is measured so often in a round; the figure is the median of all."""
    warm_seconds: float = 3.0
    closed_seconds: float = 4.0
    rate: float = 50.0
    """Requests per second of the open loop."""
    open_seconds: float = 4.0
    streams: int = 100
    """Streams open at once."""
    streams_each: int = 2
    """One after the other, on each connection, in each window."""
    chunks: int = 100
    pause_ms: float = 20.0

    @property
    def stream_seconds(self) -> float:
        """How long one stream of the mock lasts."""
        return self.chunks * self.pause_ms / 1000


DEFAULT = Plan()
QUICK = Plan(rounds=1, warm_seconds=0.7, windows=1, closed_seconds=2.0, open_seconds=2.0, chunks=50, streams_each=1)

PROBE_STREAMS = 10
"""Streams at once while it is first found out what a chunk costs."""
PROBES = 4
"""So often: under few streams a chunk also pays for what a gateway does at rest, and looks too dear to bear."""
BEARABLE_SHARE = 0.6
"""A gateway's core is loaded to this share at most where its latency is measured: a queue is not a latency."""


def bearable_rate(plan: Plan, requests_per_second: float) -> float:
    """The rate of the open loop: the plan's, or less for a gateway that could not keep up with it."""
    return min(plan.rate, max(1.0, BEARABLE_SHARE * requests_per_second))


def bearable_streams(plan: Plan, cpu_us_per_chunk: float) -> int:
    """How many streams at once: the plan's, or fewer for a gateway that could not keep up with them."""
    if cpu_us_per_chunk <= 0 or plan.pause_ms == 0:
        return plan.streams
    chunks_per_second = BEARABLE_SHARE * 1e6 / cpu_us_per_chunk
    return max(1, min(plan.streams, int(chunks_per_second * plan.pause_ms / 1000)))
