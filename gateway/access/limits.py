"""Limits per key, and the count of what keys use. The hot path asks `Limiter` once per request.

A key without limits costs nothing but the count. One with limits is let in from the slice of them that this worker
holds; when the slice is spent, or a second old, the database is asked for another (`window.py` has the rules).

While the database is away, inference goes on: each worker lets in its even share of the limits by itself, for
`AWAY_SECONDS` at most, and tells the others afterwards. Usage is written down every second and at the end, so a crash
loses at most the last second of it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from gateway.access.caller import UNLIMITED, Caller, KeyLimits
from gateway.access.gate import Gate, Waiting
from gateway.access.rate_headers import Headers, headers_of
from gateway.access.tally import UsageTally
from gateway.access.window import Ask, Grant, KeyWindow, Refusal
from gateway.errors import DatabaseUnavailable
from gateway.storage.database import Database
from gateway.storage.limits import change_states
from gateway.storage.usage import add_usage

TICK_SECONDS = 0.5
FLUSH_SECONDS = 1.0
PATIENCE_SECONDS = 1.5
"""A database that has not answered by then counts as away."""
AWAY_SECONDS = 300.0
STREAM_ATTEMPTS, STREAM_PAUSE_SECONDS = 6, 0.05
"""A stream that ended at another worker a moment ago is free once the database knows."""
MAX_KEYS_AT_ONCE = 200
IDLE_SECONDS = 120.0

log = structlog.get_logger(__name__)


class Admission:
    """A request that was let in. `settle` it once its tokens are known, however it ended."""

    __slots__ = ("_bucket", "_caller", "_gate", "_limiter", "_reserved", "_settled", "header_lines")

    def __init__(self, limiter: "Limiter", caller: Caller, gate: Gate | None = None, reserved: int = 0) -> None:
        """`gate`: that of a key with limits, from which `reserved` tokens were taken."""
        self._limiter, self._caller, self._gate, self._reserved = limiter, caller, gate, reserved
        self._settled = False
        self._bucket, self.header_lines = (0, b"") if gate is None else (gate.bucket, gate.header_lines())

    @property
    def headers(self) -> Headers:
        """`x-ratelimit-*`, for the answer; empty for a key without limits. `header_lines` has them as HTTP."""
        return headers_of(self.header_lines)

    def settle(self, prompt_tokens: int, completion_tokens: int, end_user_hash: str | None = None) -> None:
        """Give back the stream, correct the reservation of tokens, count the usage. Only the first call counts."""
        if self._settled:
            return
        self._settled = True
        self._limiter.count(self._caller, end_user_hash, prompt_tokens, completion_tokens)
        if self._gate is not None:
            self._limiter.settle(self._gate, self._reserved, self._bucket, prompt_tokens + completion_tokens)


class Limiter:
    """Lets requests in, or says when to come back. Has a database of its own, so that it never waits for others."""

    def __init__(
        self,
        database: Database,
        worker: str,
        defaults: KeyLimits = UNLIMITED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._worker = worker
        self._defaults = defaults
        self._clock = clock
        self._usage = UsageTally(clock)
        self._unlimited = defaults == UNLIMITED
        self._gates: dict[str, Gate] = {}
        self._to_ask: dict[str, Gate] = {}
        self._asking: asyncio.Task[None] | None = None
        self._away_since: float | None = None

    def try_admit(self, caller: Caller, tokens: int) -> Admission | None:
        """Let a request in at once that is expected to take `tokens`; None: use `await admit`.

        Raises `RateLimited`.
        """
        if self._unlimited and caller.limits == UNLIMITED:
            return Admission(self, caller)
        gate = self._gate(caller)
        if not gate.take(tokens, self._clock()):
            return None
        return Admission(self, caller, gate, tokens)

    async def admit(self, caller: Caller, tokens: int) -> Admission:
        """Let a request in, leasing a slice of the key's limits from the database if need be. Raises `RateLimited`."""
        attempts = 0
        while True:
            admission = self.try_admit(caller, tokens)
            if admission is not None:
                return admission
            gate = self._gate(caller)
            refusal = await self._refusal_of(gate, tokens)
            if refusal is None:
                return Admission(self, caller, gate, tokens)
            attempts += 1
            if refusal.kind != "streams" or attempts == STREAM_ATTEMPTS:
                raise gate.error(refusal, self._clock())
            await asyncio.sleep(STREAM_PAUSE_SECONDS)

    def count(self, caller: Caller, end_user_hash: str | None, prompt_tokens: int, completion_tokens: int) -> None:
        """Count what a request used."""
        self._usage.add(caller.key_id, caller.project_id, end_user_hash, prompt_tokens, completion_tokens)

    def settle(self, gate: Gate, reserved: int, bucket: int, used: int) -> None:
        """A request is over that had `reserved` tokens of what was given out in `bucket`."""
        if gate.settle(reserved, bucket, used, self._clock()):
            self._ask_soon(gate)

    async def run(self) -> None:
        """Give back what is not used and write usage down, for ever."""
        flushed = 0.0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()
            if time.monotonic() >= flushed + FLUSH_SECONDS - TICK_SECONDS / 2:
                flushed = time.monotonic()
                await self.flush_usage()

    def tick(self) -> None:
        """Begin to tell the database what the other workers should know, and forget keys that are not used."""
        now = self._clock()
        for gate in list(self._gates.values()):
            if gate.has_news(now) or self._away_since is not None:  # is it back?
                self._ask_soon(gate)
            elif gate.open == 0 and not gate.waiting and now >= gate.used_at + IDLE_SECONDS:
                del self._gates[gate.key_id]

    async def told(self) -> None:
        """Wait until the database was told what there is to tell."""
        if self._asking is not None:
            await asyncio.shield(self._asking)

    async def flush_usage(self) -> None:
        """Write down what was counted; it is kept for the next time if that does not work."""
        counts = self._usage.take()
        if not counts:
            return
        names = ("month", "key_id", "project_id", "end_user_hash", "requests", "prompt_tokens", "completion_tokens")
        rows = [dict(zip(names, (*whose, *numbers), strict=True)) for whose, numbers in counts.items()]
        try:
            async with self._database.write("relaxed") as session:
                await add_usage(session, rows)
        except BaseException as error:
            self._usage.put_back(counts)
            if not isinstance(error, Exception):
                raise
            log.warning("usage_not_written", error=type(error).__name__)

    async def close(self) -> None:
        """Give everything back, write usage down, close the connections."""
        for gate in self._gates.values():
            gate.open = 0
            self._ask_soon(gate)
        await self.told()
        await self.flush_usage()
        await self._database.close()

    def _gate(self, caller: Caller) -> Gate:
        gate = self._gates.get(caller.key_id)
        if gate is None:
            gate = self._gates[caller.key_id] = Gate(caller, caller.limits.or_else(self._defaults))
        elif gate.caller is not caller:
            gate.be_of(caller, caller.limits.or_else(self._defaults))
        return gate

    async def _refusal_of(self, gate: Gate, tokens: int) -> Refusal | None:
        away = self._away_since
        if away is not None and self._clock() - away <= AWAY_SECONDS:
            return self._refusal_alone(gate, tokens)
        verdict: asyncio.Future[Refusal | bool] = asyncio.get_running_loop().create_future()
        gate.waiting.append(Waiting(tokens, verdict))
        self._ask_soon(gate)
        try:
            answer = await verdict
        except asyncio.CancelledError:
            if verdict.done() and not verdict.cancelled() and verdict.result() is True:
                gate.never_ran(tokens)
            raise
        if answer is False:
            return self._refusal_alone(gate, tokens)
        return None if answer is True else answer

    def _refusal_alone(self, gate: Gate, tokens: int) -> Refusal | None:
        now = self._clock()
        if self._away_since is not None and now - self._away_since > AWAY_SECONDS:
            raise DatabaseUnavailable("The database that keeps this key's limits is away. Try again in a moment.")
        return gate.take_alone(tokens, now)

    def _ask_soon(self, gate: Gate) -> None:
        self._to_ask[gate.key_id] = gate
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())

    async def _ask_all(self) -> None:
        while self._to_ask:
            names = list(self._to_ask)[:MAX_KEYS_AT_ONCE]
            await self._ask({name: self._to_ask.pop(name) for name in names})

    async def _ask(self, gates: dict[str, Gate]) -> None:
        asked = {name: gate.ask(self._worker) for name, gate in gates.items()}
        grants: dict[str, Grant] = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                grants = await self._exchange(gates, {name: ask for name, (ask, _) in asked.items()})
            self._away_since = None
        except Exception as error:
            if self._away_since is None:
                self._away_since = self._clock()
                expected = isinstance(error, DatabaseUnavailable | TimeoutError)
                log.warning("limits_database_away", error=type(error).__name__, exc_info=not expected)
        finally:
            for name, gate in gates.items():
                ask, waiting = asked[name]
                if name in grants:
                    gate.answered(waiting, grants[name])
                    gate.let_in_waiting(self._clock())
                    if not gate.waiting:
                        self._to_ask.pop(name, None)
                else:
                    gate.unanswered(ask, waiting)

    async def _exchange(self, gates: dict[str, Gate], asks: dict[str, Ask]) -> dict[str, Grant]:
        grants: dict[str, Grant] = {}

        def change(states: dict[str, dict[str, Any]]) -> dict[str, Any]:
            now = self._clock()  # the rows are ours now
            windows = {name: KeyWindow(state) for name, state in states.items()}
            for name, window in windows.items():
                grants[name] = window.exchange(gates[name].limits, asks[name], now)
            return {name: window.state() for name, window in windows.items()}

        async with self._database.write("relaxed") as session:
            await change_states(session, list(gates), change)
        return grants
