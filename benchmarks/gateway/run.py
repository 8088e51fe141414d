"""One run: the rows one after the other, each with a fresh mock upstream, a fresh gateway and every answer checked."""

import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import uvloop

from benchmarks.gateway.alignway import ROWS, AlignwayRow, start_alignway
from benchmarks.gateway.goals import BASELINE
from benchmarks.gateway.load import Endpoint, Load
from benchmarks.gateway.measure import Meter, NotReady, Row, measure, wait_until_ready
from benchmarks.gateway.peers import Peer, load_peers, start_peer
from benchmarks.gateway.place import Place, Started, Upstream, mock_upstream
from benchmarks.gateway.plan import Plan

T = TypeVar("T")
READY_SECONDS = 60.0


@dataclass(frozen=True)
class Foreign:
    """An upstream that somebody else runs."""

    url: str
    model: str
    max_tokens: int


class Bench:
    """Starts gateways in front of an upstream and hands them to what measures them."""

    def __init__(self, place: Place, plan: Plan, foreign: Foreign | None = None) -> None:
        self.place, self.plan, self._foreign = place, plan, foreign
        self.peers = {peer.name: peer for peer in load_peers()}
        self.ours = {row.name: row for row in ROWS}

    def names(self) -> list[str]:
        """All rows, in the order they are measured; optional ones only where they are installed."""
        peers = [
            peer.name for peer in self.peers.values() if not peer.is_optional or peer.is_installed(self.place.folder)
        ]
        return [BASELINE, *self.ours, *peers]

    def with_gateway(self, name: str, work: Callable[[Load, Started], Awaitable[T]]) -> tuple[T, dict[str, Any]]:
        """Start the gateway of that name, wait until it answers, do the work; and the facts of its row.

        Raises `NotReady` if it does not get that far.
        """
        os.sched_setaffinity(0, {self.place.cores.load})
        with self._upstream() as upstream:
            with self._start(name, upstream) as started:
                load = Load(self._bounded(started.endpoint), upstream.chunks)
                peer = self.peers.get(name)
                ready_seconds = peer.ready_seconds if peer else READY_SECONDS

                async def all_of_it() -> T:
                    await wait_until_ready(load, started, ready_seconds)
                    return await work(load, started)

                found = uvloop.run(all_of_it())
                started.facts["asked"] = load.answers
            return found, started.facts

    def measure(self, name: str) -> Row:
        """The figures of one row."""

        async def work(load: Load, started: Started) -> Row:
            return await measure(name, load, Meter(started), self.plan)

        row, facts = self.with_gateway(name, work)
        row.facts = {key: value for key, value in facts.items() if key != "asked" or "recorded" in facts}
        return row

    def measure_all(self, names: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
        """The figures of a run; a gateway that cannot be measured is named with the reason."""
        rows: dict[str, Row] = {}
        failed: dict[str, str] = {}
        for number, name in itertools.product(range(self.plan.rounds), names):
            if name in failed:
                continue
            say(f"round {number + 1}: {name}")
            try:
                row = self.measure(name)
                rows[name] = rows[name].with_round(row) if name in rows else row
            except NotReady as error:
                failed[name] = f"{error}; its log is logs/{name}.log"
                say(f"{name} failed: {failed[name]}")
        return {
            "rows": {name: asdict(row) for name, row in rows.items()},
            "failed": failed,
            "routers": [peer.name for peer in self.peers.values() if peer.is_router],
            "plan": asdict(self.plan),
            "upstream": self._foreign.url if self._foreign else "mock",
        }

    @contextlib.contextmanager
    def _upstream(self) -> Iterator[Upstream]:
        if self._foreign is not None:
            yield Upstream(self._foreign.url, self._foreign.model, None)
            return
        with mock_upstream(self.place, self.plan.chunks, self.plan.pause_ms) as upstream:
            yield upstream

    @contextlib.contextmanager
    def _start(self, name: str, upstream: Upstream) -> Iterator[Started]:
        if name == BASELINE:
            yield Started(self._direct(upstream), upstream.process)
        elif name in self.ours:
            row: AlignwayRow = self.ours[name]
            with start_alignway(row, self.place, upstream) as started:
                started.facts["note"] = row.note
                yield started
        else:
            peer: Peer = self.peers[name]
            if not peer.is_installed(self.place.folder):
                raise NotReady(f"it is not installed; python -m benchmarks.gateway setup {name}")
            with start_peer(peer, self.place, upstream.url, upstream.model) as started:
                started.facts |= {"version": peer.version(self.place.folder), "note": peer.note}
                yield started

    def _bounded(self, endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, max_tokens=self._foreign.max_tokens) if self._foreign else endpoint

    def _direct(self, upstream: Upstream) -> Endpoint:
        host, _, port = upstream.url.rpartition("//")[2].partition(":")
        return Endpoint(host, int(port or 80), upstream.model)
