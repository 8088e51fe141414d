"""What one worker has counted up to now, as it is written for the other workers of its host, and how such add up."""

from collections.abc import Set

from msgspec import DecodeError, Struct, field
from msgspec.msgpack import Decoder, Encoder

from gateway.telemetry.meter import Histogram, Meter

LAYOUT = 2
"""Raise it when fields or buckets change: what another release of Alignway left behind is then not misread."""
RETIRED_SECONDS = 600.0
"""Series of a release that is served no more are kept this long after its last request."""
OTHER = "other"
"""Label of all values beyond the first 50."""
IDLE_SECONDS = 7 * 86400.0
"""Series of a key or alias that nobody uses are kept this long."""


class PoolReading(Struct, array_like=True):
    """What the pool of one worker says at one moment."""

    queue_requests: int = 0
    circuits: dict[str, str] = field(default_factory=dict)
    """Replica: `closed`, `open` or `half_open`, as this worker sees it."""
    ready_replicas: dict[str, int] = field(default_factory=dict)
    """Alias: how many replicas serve its release."""
    served: frozenset[str] | None = None
    """Names of the releases that are, or are to be, served; None as long as nobody knows."""


class Snapshot(Struct, array_like=True):
    """The numbers of one worker, or the sum of several."""

    layout: int = LAYOUT
    meters: list[Meter] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    """Under `status code`, such as `429 queue_full`."""
    unrecorded: int = 0
    queue_wait: Histogram = field(default_factory=Histogram)
    pool: PoolReading = field(default_factory=PoolReading)
    purged: dict[str, int] = field(default_factory=dict)
    """Kind of record: how many were deleted because they were too old."""
    purged_at: float = 0.0
    """When that was last done, in unix seconds."""


class Totals:
    """The sum of snapshots. Counts add up; what is true only of a worker that lives is left out for those gone."""

    def __init__(self) -> None:
        self.meters: dict[tuple[str, str, str], Meter] = {}
        self.refusals: dict[str, int] = {}
        self.unrecorded = 0
        self.purged: dict[str, int] = {}
        self.purged_at = 0.0
        self.queue_wait = Histogram()
        self.queue_requests = 0
        self.circuits: dict[tuple[str, str], int] = {}
        """Replica and state: how many workers see it so."""
        self.workers = 0

    def add(self, snapshot: Snapshot, *, alive: bool) -> None:
        """Add what a worker counted, and if it is alive also what it is busy with. The snapshot is used up."""
        for meter in snapshot.meters:
            if not alive:
                meter.in_flight = 0
            mine = self.meters.setdefault(meter.labels, meter)
            if mine is not meter:
                mine.add(meter)
        for refusal, times in snapshot.refusals.items():
            self.refusals[refusal] = self.refusals.get(refusal, 0) + times
        self.unrecorded += snapshot.unrecorded
        for kind, records in snapshot.purged.items():
            self.purged[kind] = self.purged.get(kind, 0) + records
        self.purged_at = max(self.purged_at, snapshot.purged_at)
        self.queue_wait.add(snapshot.queue_wait)
        if alive:
            self._add_state(snapshot.pool)

    def _add_state(self, pool: PoolReading) -> None:
        self.workers += 1
        self.queue_requests += pool.queue_requests
        for seen in pool.circuits.items():
            self.circuits[seen] = self.circuits.get(seen, 0) + 1

    def drop_expired(self, served: Set[str] | None, now: float) -> set[tuple[str, str, str]]:
        """Forget the series of releases retired for a while and of what nobody uses; their labels.

        Every worker comes to the same conclusion, since it looks at the sum over all of them.
        """
        expired = {labels for labels, meter in self.meters.items() if is_expired(meter, served, now)}
        for labels in expired:
            del self.meters[labels]
        return expired

    def counts(self) -> Snapshot:
        """Everything that was counted, for those who are gone."""
        return Snapshot(
            meters=list(self.meters.values()),
            refusals=self.refusals,
            unrecorded=self.unrecorded,
            queue_wait=self.queue_wait,
            purged=self.purged,
            purged_at=self.purged_at,
        )


def is_expired(meter: Meter, served: Set[str] | None, now: float) -> bool:
    """Whether a series may go. `other` stands for many releases; models without releases have "" for one."""
    if meter.in_flight > 0:
        return False
    release = meter.labels[1]
    retired = served is not None and release not in served and release not in ("", OTHER)
    return now - meter.used_at > (RETIRED_SECONDS if retired else IDLE_SECONDS)


encode = Encoder().encode
_decoder = Decoder(Snapshot)


def decode(data: bytes) -> Snapshot:
    """A snapshot from its bytes; an empty one if they are not whole, or written by another release of Alignway."""
    try:
        snapshot = _decoder.decode(data)
    except DecodeError:
        return Snapshot()
    return snapshot if snapshot.layout == LAYOUT else Snapshot()
