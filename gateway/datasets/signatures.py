"""MinHash signatures (Broder 1997, by the library rensa), and which of them are worth a closer look. Pure.

A signature has 128 values in 32 bands of 4. Two texts whose overlap is 0.8 share a whole band with a probability of
1 - (1 - 0.8^4)^32, which misses five in a hundred million; whatever shares one is then compared exactly.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy
from rensa import RMinHash

VALUES, BANDS = 128, 32
SIGNATURE_BYTES = VALUES * 4
SEED = 1
ESTIMATE_FROM = 0.55
"""Candidates whose signatures agree less than this are not looked at: 7 standard errors below 0.8."""
LOOK_AHEAD = 32
"""Of each band, so many candidates are looked at together."""
THREADS = 2
_MIX = numpy.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], numpy.uint64)


def signature(found: Set[str]) -> bytes:
    """The signature of a set of shingles, 512 bytes."""
    minhash = RMinHash(num_perm=VALUES, seed=SEED)
    minhash.update(list(found))
    return array("I", minhash.digest()).tobytes()


class Candidates:
    """Signatures in the order in which their prompts are settled, and what each may have in common with earlier ones.

    They are looked up by group, a number from 0 to 7 that each is given when it is settled: of a thousand prompts that
    resemble each other, those that are wanted are found without a look at the others.
    """

    def __init__(self, signatures: bytes | bytearray, groups: bytes | bytearray) -> None:
        """`groups`: of those that are settled; only the others are asked about."""
        self._matrix = numpy.frombuffer(signatures, numpy.uint32).reshape(-1, VALUES)
        self._groups = numpy.zeros(len(self._matrix), numpy.uint8)
        settled = len(groups)
        self._groups[:settled] = numpy.frombuffer(groups, numpy.uint8)
        self._runs: list[Sequence[int]] = []
        self._held: list[int] = []
        """Which groups each run has members of, as bits."""
        self._runs_of: dict[int, list[int]] = {}
        with ThreadPoolExecutor(THREADS) as pool:  # sorting needs no lock of Python's
            for runs in pool.map(lambda number: _runs_with_news(self._band(number), settled), range(BANDS)):
                for run in runs:
                    self._add(run, settled)

    @property
    def asked(self) -> Collection[int]:
        """Those that were not settled and share a band with another one."""
        return self._runs_of.keys()

    def settle(self, index: int, group: int) -> None:
        """Say of which group one is that was asked about."""
        self._groups[index] = group
        for run in self._runs_of.get(index, ()):
            self._held[run] |= 1 << group

    def before(self, index: int, group: int, begin: int, end: int) -> Iterator[int]:
        """Those of the group from `begin` to `end` that may be near-duplicates of `index`, oldest first."""
        runs = [self._runs[run] for run in self._runs_of.get(index, ()) if self._held[run] >> group & 1]
        rest = [run[bisect_left(run, begin) : bisect_left(run, end)] for run in runs]
        while rest := [run for run in rest if len(run)]:
            bound = min(run[:LOOK_AHEAD][-1] for run in rest)
            cuts = [bisect_right(run, bound) for run in rest]
            members = {*chain.from_iterable(run[:cut] for run, cut in zip(rest, cuts, strict=True))}
            found = numpy.array(sorted(members), numpy.intp)
            found = found[self._groups[found] == group]
            agreement = (self._matrix[found] == self._matrix[index]).mean(axis=1)
            yield from found[agreement >= ESTIMATE_FROM].tolist()
            rest = [run[cut:] for run, cut in zip(rest, cuts, strict=True)]

    def _add(self, run: Sequence[int], settled: int) -> None:
        held, number, known = 0, len(self._runs), bisect_left(run, settled) if settled else 0
        for group in set(self._groups[run[:known]].tolist()) if known else ():
            held |= 1 << group
        for index in run[known:]:
            self._runs_of.setdefault(index, []).append(number)
        self._runs.append(run if len(run) <= LOOK_AHEAD else memoryview(array("q", run)))  # parts of it are no copies
        self._held.append(held)

    def _band(self, number: int) -> Any:
        """One band as a 64-bit value a signature."""
        width = VALUES // BANDS
        rows = self._matrix[:, number * width : (number + 1) * width].astype(numpy.uint64)
        with numpy.errstate(over="ignore"):
            return (rows * _MIX).sum(axis=1, dtype=numpy.uint64)


def _runs_with_news(band: Any, settled: int) -> list[list[int]]:
    """Those that share a value, at least one of them new: their numbers, ascending."""
    numbers = numpy.arange(settled, len(band))
    if settled:
        known = numpy.flatnonzero(numpy.isin(band[:settled], band[settled:]))
        numbers = numpy.concatenate((known, numbers))
    order = numbers[numpy.argsort(band[numbers])]
    ends = numpy.append(numpy.flatnonzero(numpy.diff(band[order])) + 1, len(order))
    begins = numpy.concatenate(([0], ends[:-1]))
    shared = ends - begins > 1
    shares = zip(begins[shared].tolist(), ends[shared].tolist(), strict=True)
    return [sorted(order[begin:end].tolist()) for begin, end in shares]
