"""MinHash signatures (Broder 1997, by the library rensa), and which of them are worth a closer look. Pure.

A signature has 128 values in 32 bands of 4. Two texts whose overlap is 0.8 share a whole band with a probability of
1 - (1 - 0.8^4)^32, which misses five in a hundred million; whatever shares one is then compared exactly.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
from rensa import RMinHash

VALUES, BANDS = 128, 32
SIGNATURE_BYTES = VALUES * 4
SEED = 1
ESTIMATE_FROM = 0.55
"""Candidates whose signatures agree less than this are not looked at: 7 standard errors below 0.8."""
_MIX = numpy.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], numpy.uint64)


def signature(found: set[str]) -> bytes:
    """The signature of a set of shingles, 512 bytes."""
    minhash = RMinHash(num_perm=VALUES, seed=SEED)
    minhash.update(sorted(found))
    return numpy.asarray(minhash.digest(), numpy.uint32).tobytes()


class Candidates:
    """Signatures in the order in which their prompts are settled, and what each has in common with earlier ones."""

    def __init__(self, signatures: Sequence[bytes], settled: int) -> None:
        """The first `settled` are known; only the others are asked about."""
        self._matrix = numpy.frombuffer(b"".join(signatures), numpy.uint32).reshape(-1, VALUES)
        self._runs: dict[int, list[Any]] = {}
        for number in range(BANDS):
            for run in self._runs_with_news(self._band(number), settled):
                for place in range(max(1, int(numpy.searchsorted(run, settled))), len(run)):
                    self._runs.setdefault(int(run[place]), []).append(run[:place])

    def of(self, index: int) -> list[int]:
        """Those before `index` that may be its near-duplicates, oldest first."""
        runs = self._runs.get(index)
        if runs is None:
            return []
        earlier = numpy.unique(numpy.concatenate(runs))
        agreement = (self._matrix[earlier] == self._matrix[index]).mean(axis=1)
        return [int(one) for one in earlier[agreement >= ESTIMATE_FROM]]

    def _band(self, number: int) -> Any:
        """One band as a 64-bit value a signature."""
        width = VALUES // BANDS
        rows = self._matrix[:, number * width : (number + 1) * width].astype(numpy.uint64)
        with numpy.errstate(over="ignore"):
            return (rows * _MIX).sum(axis=1, dtype=numpy.uint64)

    @staticmethod
    def _runs_with_news(band: Any, settled: int) -> Iterator[Any]:
        """Those that share a value, at least one of them new: their numbers, ascending."""
        if not len(band):
            return
        order = numpy.argsort(band, kind="stable")
        ends = numpy.append(numpy.flatnonzero(numpy.diff(band[order])) + 1, len(order))
        begins = numpy.concatenate(([0], ends[:-1]))
        shared = (ends - begins > 1) & (order[ends - 1] >= settled)
        yield from (order[begin:end] for begin, end in zip(begins[shared], ends[shared], strict=True))
