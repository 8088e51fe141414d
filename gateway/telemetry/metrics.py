"""Every number one gateway worker counts of its requests, and the sum over all workers for those who ask."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count

import structlog

from gateway.telemetry.exposition import exposition
from gateway.telemetry.meter import WAIT_BOUNDS, Histogram, Meter
from gateway.telemetry.shared import LABEL_KINDS, WorkerFiles
from gateway.telemetry.snapshot import OTHER, PoolReading, Snapshot, Totals, decode, encode

MAX_VALUES = 50
"""Of each label; the rest is counted under `other`."""
MAX_REMEMBERED = 10_000
"""Combinations of labels that are looked up without thinking; more than that, and all are looked up anew."""
WRITE_SECONDS = 1.0
SWEEP_SECONDS = 30.0

log = structlog.get_logger(__name__)


class Tally:
    """A count of something rare."""

    def __init__(self) -> None:
        self.times = 0

    def inc(self) -> None:
        """It happened once more."""
        self.times += 1


class Waits:
    """How long requests waited for a replica, those that had to."""

    def __init__(self) -> None:
        self.histogram = Histogram()

    def observe(self, seconds: float) -> None:
        """One waited for this long, until a replica was free or it gave up."""
        self.histogram.observe(WAIT_BOUNDS, seconds)


class Metrics:
    """Hands out meters, and counts what belongs to no request that reached an engine."""

    def __init__(self, files: WorkerFiles | None = None, read_pool: Callable[[], PoolReading] = PoolReading) -> None:
        """`files` are shared with the other workers; without, there is this worker alone."""
        self._files, self._read_pool = files, read_pool
        self._remembered: dict[tuple[str, str, str], Meter] = {}
        self._meters: dict[tuple[str, str, str], Meter] = {}
        self._labels: list[frozenset[str]] = [frozenset()] * LABEL_KINDS
        self._refusals: dict[tuple[int, str], int] = {}
        self.unrecorded = Tally()
        """Answers sent whose record could not be written."""
        self._purged: dict[str, int] = {}
        self._purged_at = 0.0
        self.queue_wait = Waits()
        self._numbers = count()

    def meter(self, alias: str, release_name: str, key_name: str) -> Meter:
        """The meter of these requests, the same one each time. Ask for it anew for each request."""
        found = self._remembered.get((alias, release_name, key_name))
        return found if found is not None else self._find_meter((alias, release_name, key_name))

    def refused(self, status: int, code: str) -> None:
        """A request was answered with an error of this HTTP status and code."""
        self._refusals[status, code] = self._refusals.get((status, code), 0) + 1

    def purge_done(self, deleted: Mapping[str, int], at: float) -> None:
        """So many records of each kind were deleted because they were too old."""
        for kind, records in deleted.items():
            self._purged[kind] = self._purged.get(kind, 0) + records
        self._purged_at = at

    async def exposition(self) -> bytes:
        """Prometheus' text format, of all workers of this host."""
        number, own = self._snapshot()
        return await asyncio.to_thread(self._render, number, own)

    async def run(self) -> None:
        """Leave a snapshot for the other workers every second, and now and then drop what is past, until cancelled."""
        swept, left = time.monotonic(), b""
        while True:
            try:
                number, own = self._snapshot()
                if own != left:
                    await asyncio.to_thread(self._write, number, own)
                    left = own
                if time.monotonic() - swept >= SWEEP_SECONDS:
                    await self.sweep()
                    swept = time.monotonic()
            except OSError as error:  # a full disk may pass
                log.warning("metrics_not_shared", error=str(error))
            await asyncio.sleep(WRITE_SECONDS)

    async def sweep(self) -> None:
        """Drop the series of releases retired for a while, and let new labels take their places."""
        number, own = self._snapshot()
        expired, labels = await asyncio.to_thread(self._sweep_files, number, own)
        for series in expired:
            self._meters.pop(series, None)
        self._labels = labels
        self._remembered.clear()

    def close(self) -> None:
        """Leave what was counted to the others."""
        if self._files is not None:
            with suppress(OSError):
                self._write(*self._snapshot())
            self._files.close()

    def _find_meter(self, asked: tuple[str, str, str]) -> Meter:
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        sure = all(self._let_in(kind, value) for kind, value in enumerate(asked))
        alias, release, key = (v if v in self._labels[kind] else OTHER for kind, v in enumerate(asked))
        meter = self._meters.get((alias, release, key))
        if meter is None:
            meter = self._meters[alias, release, key] = Meter((alias, release, key))
        if sure:
            self._remembered[asked] = meter
        return meter

    def _let_in(self, kind: int, value: str) -> bool:
        """Let a label value in if there is room; False: who else is in is being changed, so ask again next time."""
        held = self._labels[kind]
        if value in held or value == OTHER:
            return True
        if self._files is not None:
            with suppress(OSError):
                admitted = self._files.admit(kind, value, MAX_VALUES, time.time())
                if admitted is None:
                    return False
                held = admitted
        elif len(held) < MAX_VALUES:
            held |= {value}
        self._labels[kind] = held
        return True

    def _snapshot(self) -> tuple[int, bytes]:
        """The numbers of this worker, and the place of this reading among all. Only where requests are counted."""
        snapshot = Snapshot(
            meters=list(self._meters.values()),
            refusals={f"{status} {code}": times for (status, code), times in self._refusals.items()},
            unrecorded=self.unrecorded.times,
            queue_wait=self.queue_wait.histogram,
            pool=self._read_pool(),
            purged=self._purged,
            purged_at=self._purged_at,
        )
        return next(self._numbers), encode(snapshot)

    def _write(self, number: int, own: bytes) -> None:
        if self._files is not None:
            self._files.write(number, own)

    def _totals(self, number: int, own: bytes) -> Totals:
        """The sum over all workers. What is told of this one is written down first: killed, it will have counted it."""
        if self._files is not None:
            try:
                self._files.write(number, own)
                return self._files.merged(own)
            except OSError as error:
                log.warning("metrics_not_shared", error=str(error))
        totals = Totals()
        totals.add(decode(own), alive=True)
        return totals

    def _render(self, number: int, own: bytes) -> bytes:
        totals, pool = self._totals(number, own), decode(own).pool
        totals.drop_expired(pool.served, time.time())
        return exposition(totals, pool.ready_replicas)

    def _sweep_files(self, number: int, own: bytes) -> tuple[set[tuple[str, str, str]], list[frozenset[str]]]:
        totals = self._totals(number, own)
        expired = totals.drop_expired(decode(own).pool.served, time.time())
        used = [{labels[kind] for labels in totals.meters} - {OTHER} for kind in range(LABEL_KINDS)]
        if self._files is None:
            return expired, [frozenset(values) for values in used]
        if expired:
            self._files.forget(expired)
        return expired, self._files.keep_labels(used, time.time())
