"""How much of a key's limits is given out, and to whom: pure arithmetic over one record that all workers share.

Requests and tokens are counted in a window that slides: what was given out within the last minute counts. A worker is
given what its waiting requests need, and a slice to spend without asking again: at most `SPARE_SHARE` of the limit for
all workers together, for `SLICE_SECONDS`; what is left of it comes back with the worker's next word. Streams are lent:
a worker that is not heard of for `WORKER_SECONDS` has died, and its streams with it.

So within any minute at most the limit and what workers held in slices as it began is let in, and at most a tenth lies
idle with workers that do not use it. The workers' clocks must agree to well within a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.access.caller import KeyLimits

WINDOW_SECONDS = 60.0
BUCKET_SECONDS = 0.5
"""What is given out is written down by half seconds."""
SLICE_SECONDS = 1.0
SPARE_SHARE = 0.1
WORKER_SECONDS = 5.0
STREAM_RETRY_SECONDS = 1.0
"""When to come back for a stream; nobody knows when one ends."""

Kind = Literal["requests", "tokens", "streams"]
Counts = list[int]
"""Requests and tokens."""
REQUESTS, TOKENS = 0, 1
NAMES: tuple[tuple[int, Kind], ...] = ((REQUESTS, "requests"), (TOKENS, "tokens"))


@dataclass(frozen=True)
class Ask:
    """What a worker has to say about a key."""

    worker: str
    wanted: Sequence[int] = ()
    """The tokens that each waiting request is expected to take."""
    open: int = 0
    """Requests it has let in that are not over."""
    corrections: dict[int, Counts] = field(default_factory=dict)
    """By bucket: below 0 what was given out and not used, above 0 what was used and not given out."""
    wants_slice: bool = True


@dataclass(frozen=True)
class Refusal:
    """There is no room for a request."""

    kind: Kind
    retry_seconds: float | None
    """None: it asks for more than the whole limit, and never fits."""


@dataclass(frozen=True)
class Grant:
    """The answer to an `Ask`."""

    at: float
    verdicts: list[Refusal | None]
    """For each waiting request; None: let it in."""
    spare: Counts
    """The slice: requests and tokens beyond those of the waiting requests."""
    spare_streams: int
    free: Counts
    """What nobody has been given, after this."""
    resets_at: list[float]
    """When the whole limit is free again if nothing more is asked for; for requests and for tokens."""
    workers: int
    """That use the key, this one included."""


def bucket_of(at: float) -> int:
    """The half second in which a moment lies."""
    return int(at // BUCKET_SECONDS)


def spare_of(limit: int | None) -> int:
    """What all workers together may hold of a limit without using it."""
    return 0 if limit is None else int(limit * SPARE_SHARE)


@dataclass
class _Worker:
    seen_at: float
    spare: Counts
    spare_streams: int
    streams: int
    """Those it has open and those it may open."""


class KeyWindow:
    """The record of one key."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._granted: dict[int, Counts] = {int(bucket): list(counts) for bucket, counts in state.get("granted", ())}
        self._workers = {name: _Worker(*fields) for name, *fields in state.get("workers", ())}

    def state(self) -> dict[str, Any]:
        """The record as JSON."""
        return {
            "granted": [[bucket, counts] for bucket, counts in self._granted.items()],
            "workers": [
                [name, worker.seen_at, worker.spare, worker.spare_streams, worker.streams]
                for name, worker in self._workers.items()
            ],
        }

    def exchange(self, limits: KeyLimits, ask: Ask, now: float) -> Grant:
        """Take a worker's word, and give it what it asks for and a slice, as far as there is room."""
        self._workers.pop(ask.worker, None)
        self._forget(now)
        self._correct(ask.corrections, now)
        totals = [limits.requests_per_minute, limits.tokens_per_minute]
        free = [_left(totals[kind], sum(counts[kind] for counts in self._granted.values())) for kind in (0, 1)]
        streams = _left(limits.streams, ask.open + sum(worker.streams for worker in self._workers.values()))
        verdicts: list[Refusal | None] = []
        taken = [0, 0]
        for tokens in ask.wanted:
            refusal = self._refusal([1, tokens], free, streams, totals, now)
            verdicts.append(refusal)
            if refusal is None:
                taken = [taken[REQUESTS] + 1, taken[TOKENS] + tokens]
                free = [free[REQUESTS] - 1, free[TOKENS] - tokens]
                streams -= 1
        workers = len(self._workers) + 1
        spare, spare_streams = [0, 0], 0
        if taken[REQUESTS] and ask.wants_slice:
            spare = [self._slice(totals[kind], kind, free[kind], workers) for kind in (0, 1)]
            others = sum(worker.spare_streams for worker in self._workers.values())
            spare_streams = _share(spare_of(limits.streams), others, streams, workers)
        self._give(ask, taken, spare, spare_streams, now)
        free = [free[kind] - spare[kind] for kind in (0, 1)]
        resets_at = [self._resets_at(kind, now) for kind in (0, 1)]
        return Grant(now, verdicts, spare, spare_streams, free, resets_at, workers)

    def _forget(self, now: float) -> None:
        def counts_still(bucket: int) -> bool:
            # One that lies ahead by more than a window was written by a clock that has been set back since.
            return now - WINDOW_SECONDS < (bucket + 1) * BUCKET_SECONDS <= now + WINDOW_SECONDS

        self._granted = {bucket: counts for bucket, counts in self._granted.items() if counts_still(bucket)}
        self._workers = {
            name: worker for name, worker in self._workers.items() if abs(now - worker.seen_at) < WORKER_SECONDS
        }

    def _correct(self, corrections: dict[int, Counts], now: float) -> None:
        for bucket, (requests, tokens) in corrections.items():
            counts = self._granted.get(bucket)
            if counts is None and (requests > 0 or tokens > 0) and bucket > bucket_of(now - WINDOW_SECONDS):
                counts = self._granted[bucket] = [0, 0]
            if counts is not None:
                counts[:] = max(0, counts[REQUESTS] + requests), max(0, counts[TOKENS] + tokens)

    def _refusal(
        self, need: Counts, free: Counts, streams: int, totals: list[int | None], now: float
    ) -> Refusal | None:
        if streams < 1:
            return Refusal("streams", STREAM_RETRY_SECONDS)
        lacking: list[Refusal] = []
        for kind, name in NAMES:
            total = totals[kind]
            if total is None or need[kind] <= free[kind]:
                continue
            if need[kind] > total:
                return Refusal("tokens", None)
            lacking.append(Refusal(name, self._seconds_until(kind, need[kind] - free[kind], now)))
        return max(lacking, key=lambda refusal: refusal.retry_seconds or 0.0, default=None)

    def _seconds_until(self, kind: int, missing: int, now: float) -> float:
        for bucket in sorted(self._granted):
            missing -= self._granted[bucket][kind]
            if missing <= 0:
                return max(0.001, _leaves_at(bucket) - now)
        return WINDOW_SECONDS  # what is missing was given out just now, to requests beside this one

    def _slice(self, total: int | None, kind: int, free: int, workers: int) -> int:
        others = sum(worker.spare[kind] for worker in self._workers.values())
        return _share(spare_of(total), others, free, workers)

    def _give(self, ask: Ask, taken: Counts, spare: Counts, spare_streams: int, now: float) -> None:
        streams = ask.open + taken[REQUESTS] + spare_streams
        if taken[REQUESTS]:
            counts = self._granted.setdefault(bucket_of(now), [0, 0])
            counts[:] = [counts[kind] + taken[kind] + spare[kind] for kind in (0, 1)]
        if streams or any(spare):
            self._workers[ask.worker] = _Worker(now, spare, spare_streams, streams)

    def _resets_at(self, kind: int, now: float) -> float:
        return max((_leaves_at(bucket) for bucket, counts in self._granted.items() if counts[kind]), default=now)


def _left(total: int | None, used: int) -> int:
    return 1 << 62 if total is None else total - used


def _share(spare: int, others: int, free: int, workers: int) -> int:
    """A worker's part of what may lie idle: no more than the others leave of it, nor than is free."""
    return max(0, min(spare // workers, spare - others, free))


def _leaves_at(bucket: int) -> float:
    return (bucket + 1) * BUCKET_SECONDS + WINDOW_SECONDS
