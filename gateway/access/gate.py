"""What one worker holds of a key's limits, and knows of the rest. No IO: the `Limiter` carries the words.

See `window.py` for what the workers have agreed on.
"""

import asyncio
from dataclasses import dataclass

from gateway.access.caller import Caller, KeyLimits
from gateway.access.rate_headers import HeaderLines, duration, rate_headers
from gateway.access.window import (
    REQUESTS,
    SLICE_SECONDS,
    STREAM_RETRY_SECONDS,
    TOKENS,
    WINDOW_SECONDS,
    Ask,
    Counts,
    Grant,
    KeyWindow,
    Refusal,
    bucket_of,
    spare_of,
)
from gateway.errors import RateLimited

BELIEVE_SECONDS = 0.25
"""A refusal is repeated for this long without asking the database; other workers may have given back since."""
FULL_WINDOW = duration(WINDOW_SECONDS)
"""When the limits are whole again: what this request takes is free after a minute."""


@dataclass(frozen=True)
class Waiting:
    """A request that waits for the database to be asked."""

    tokens: int
    verdict: asyncio.Future[Refusal | bool]
    """True: let in. False: the database is away."""


class Gate:
    """A key's limits at this worker."""

    def __init__(self, caller: Caller, limits: KeyLimits) -> None:
        self.key_id = caller.key_id
        self.be_of(caller, limits)
        self.open = 0
        self.waiting: list[Waiting] = []
        self.used_at = 0.0
        self._asked_at = 0.0
        self._spare: Counts = [0, 0]
        self._spare_streams = 0
        self._slice_until = 0.0
        self.bucket = 0
        """When that was given out which was last taken."""
        self._corrections: dict[int, Counts] = {}
        self._giving_back = self._owing = 0
        self._free: Counts = [0, 0]
        self._resets_at = [0.0, 0.0]
        self._workers = 1
        self._refused: Refusal | None = None
        self._refused_tokens, self._refused_until = 0, 0.0
        self._alone: KeyWindow | None = None

    def be_of(self, caller: Caller, limits: KeyLimits) -> None:
        """The key as it is now: its name and its limits may have changed."""
        self.caller, self.limits = caller, limits
        self._lines = HeaderLines(limits, FULL_WINDOW)
        self._idle_streams, self._idle_tokens = spare_of(limits.streams), spare_of(limits.tokens_per_minute)

    def take(self, tokens: int, now: float) -> bool:
        """Let a request in from what this worker holds; False: ask the database. Raises `RateLimited`."""
        limits, spare = self.limits, self._spare
        self.used_at = now
        if limits.streams is not None and self._spare_streams < 1:
            if self.open >= limits.streams:
                raise self.error(Refusal("streams", STREAM_RETRY_SECONDS), now)
            return False
        if limits.requests_per_minute is not None or limits.tokens_per_minute is not None:
            fits = (limits.requests_per_minute is None or spare[REQUESTS] >= 1) and (
                limits.tokens_per_minute is None or spare[TOKENS] >= tokens
            )
            if not fits or not 0.0 < self._slice_until - now <= SLICE_SECONDS:
                self._raise_if_refused_lately(tokens, now)
                return False
            if limits.requests_per_minute is not None:
                spare[REQUESTS] -= 1
            if limits.tokens_per_minute is not None:
                spare[TOKENS] -= tokens
        if limits.streams is not None:
            self._spare_streams -= 1
        self.open += 1
        return True

    def take_alone(self, tokens: int, now: float) -> Refusal | None:
        """Let a request in without the database, from this worker's even share of the limits."""
        if self._alone is None:
            self._alone = KeyWindow()
        share = KeyLimits(*(None if limit is None else max(1, limit // self._workers) for limit in self.limits))
        grant = self._alone.exchange(share, Ask("", [tokens], self.open, wants_slice=False), now)
        self._free, self._resets_at = grant.free, grant.resets_at
        if grant.verdicts[0] is None:
            self.open += 1
            self.bucket = bucket_of(now)
            self._correct(self.bucket, 1, tokens)
        return grant.verdicts[0]

    def settle(self, reserved: int, bucket: int, used: int, now: float) -> bool:
        """A request is over; whether the database should hear of it soon."""
        self.open -= 1
        self._refused = None
        soon = False
        if self.limits.streams is not None:
            self._spare_streams += 1
            slice_ = self._idle_streams // self._workers
            soon = self._spare_streams > slice_ + slice_ // 2  # not at each stream that ends beside a whole slice
        if self.limits.tokens_per_minute is not None and used != reserved:
            # What was not used is given back where it was taken; what was used beyond it counts from now.
            self._correct(bucket_of(now) if used > reserved else bucket, 0, used - reserved)
            if used < reserved:
                self._giving_back += reserved - used
            else:
                self._owing += used - reserved
            soon = soon or self._giving_back > self._idle_tokens
        return soon

    def never_ran(self, tokens: int) -> None:
        """A request was let in by the last answer, and its client left before it heard of it."""
        self._correct(self.bucket, -1, 0)
        self.settle(tokens, self.bucket, 0, self._asked_at)

    def has_news(self, now: float) -> bool:
        """Whether the other workers should hear of this one: what it gives back, or that it is alive."""
        if now < self._asked_at + SLICE_SECONDS:  # while it is in use, what it asks for tells them
            return self._owing > 0
        return bool(self._corrections or any(self._spare) or self._spare_streams > 0 or self.open > 0)

    def ask(self, worker: str) -> tuple[Ask, list[Waiting]]:
        """The word for the database, with all that can be given back, and the requests that wait for its answer."""
        if any(self._spare):
            self._correct(self.bucket, -self._spare[REQUESTS], -self._spare[TOKENS])
        self._spare, self._spare_streams, self._giving_back, self._owing = [0, 0], 0, 0, 0
        corrections, self._corrections = self._corrections, {}
        waiting, self.waiting = self.waiting, []
        return Ask(worker, [each.tokens for each in waiting], self.open, corrections), waiting

    def answered(self, waiting: list[Waiting], grant: Grant) -> None:
        """The database's answer."""
        self._alone, self._asked_at = None, grant.at
        self._free, self._resets_at, self._workers = grant.free, grant.resets_at, grant.workers
        self._spare, self.bucket = grant.spare, bucket_of(grant.at)
        self._slice_until = grant.at + SLICE_SECONDS
        if self.limits.streams is not None:
            self._spare_streams += grant.spare_streams
        for each, refusal in zip(waiting, grant.verdicts, strict=True):
            if refusal is not None:
                self._remember(refusal, each.tokens, grant.at)
            else:
                self.open += 1
            if not each.verdict.done():
                each.verdict.set_result(True if refusal is None else refusal)
            elif refusal is None:
                self.never_ran(each.tokens)

    def let_in_waiting(self, now: float) -> None:
        """Let in what came while the database was asked, as far as its answer reaches.

        Without this, each request that came meanwhile would be asked about anew, and give the slice back for it.
        """
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            if each.verdict.done():
                continue
            try:
                let_in = self.take(each.tokens, now)
            except RateLimited:
                let_in = False
            if let_in:
                each.verdict.set_result(True)
            else:
                self.waiting.append(each)

    def unanswered(self, ask: Ask, waiting: list[Waiting]) -> None:
        """The database is away. What was to be given back may have been: giving it back twice would break the limit."""
        for bucket, (requests, tokens) in ask.corrections.items():
            self._correct(bucket, max(0, requests), max(0, tokens))
        for each in waiting:
            if not each.verdict.done():
                each.verdict.set_result(False)

    def header_lines(self) -> bytes:
        """For the answer to a request that was let in just now."""
        free, spare = self._free, self._spare
        return self._lines.lines(free[REQUESTS] + spare[REQUESTS], free[TOKENS] + spare[TOKENS])

    def error(self, refusal: Refusal, now: float) -> RateLimited:
        """The answer to a request that was not let in."""
        error = RateLimited(self._words(refusal), param="max_tokens" if refusal.retry_seconds is None else None)
        error.retry_after_seconds = refusal.retry_seconds
        resets = [duration(max(0.0, at - now)) for at in self._resets_at]
        limits = self.limits
        headers = rate_headers("requests", limits.requests_per_minute, self._free[REQUESTS], resets[REQUESTS])
        headers += rate_headers("tokens", limits.tokens_per_minute, self._free[TOKENS], resets[TOKENS])
        if refusal.retry_seconds is None:
            headers += (("x-should-retry", "false"),)
        error.headers = dict(headers)
        return error

    def _words(self, refusal: Refusal) -> str:
        limits, name = self.limits, f"The key `{self.caller.name}`"
        if refusal.retry_seconds is None:
            return (
                f"{name} may use {limits.tokens_per_minute} tokens a minute, and this request alone may take more. "
                "Send a smaller `max_tokens` or a shorter prompt."
            )
        again = f"Try again in {duration(refusal.retry_seconds)}."
        if refusal.kind == "streams":
            return f"{name} may have {limits.streams} requests open at once, and has. {again}"
        limit = limits.requests_per_minute if refusal.kind == "requests" else limits.tokens_per_minute
        return f"{name} may use {limit} {refusal.kind} a minute, and they are used up. {again}"

    def _correct(self, bucket: int, requests: int, tokens: int) -> None:
        counts = self._corrections.get(bucket)
        if counts is None:
            counts = self._corrections[bucket] = [0, 0]
        counts[REQUESTS] += requests
        counts[TOKENS] += tokens

    def _remember(self, refusal: Refusal, tokens: int, now: float) -> None:
        if refusal.kind == "streams" or refusal.retry_seconds is None:
            return
        self._refused = refusal
        self._refused_tokens = 0 if refusal.kind == "requests" else tokens
        self._refused_until = now + min(refusal.retry_seconds, BELIEVE_SECONDS)

    def _raise_if_refused_lately(self, tokens: int, now: float) -> None:
        if self._refused is not None and tokens >= self._refused_tokens and self._refused_until > now:
            raise self.error(self._refused, now)
