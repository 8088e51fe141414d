"""On which side of the split new prompts come to lie: that of their oldest near-duplicate, else a keyed draw. Pure.

What is settled stays. A prompt that resembles prompts of both sides is used on neither: so no prompt to train on ever
resembles one to measure on, whatever the order in which they come.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from gateway.datasets.shingles import NEAR, overlap, shingles
from gateway.datasets.split import SplitSide

if TYPE_CHECKING:  # at work it is imported where it is used: a gateway worker without new prompts needs no numpy
    from gateway.datasets.signatures import Candidates

SIDES: tuple[SplitSide, SplitSide] = ("train", "holdout")
_BRIDGING = len(SIDES)
"""The group of prompts that are used on neither side."""
TEXTS_AT_ONCE = 8
"""Of the settled prompts that a newcomer may resemble, so many are asked for at a time."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a prompt lies."""

    prompt_hash: str
    side: SplitSide
    cluster: str
    """The hash of the prompt with which its cluster began."""
    bridges: bool
    """It resembles prompts of both sides, and is used on neither."""
    signature: bytes


@dataclass(slots=True)
class _Search:
    """For the oldest settled near-duplicate of one newcomer on one side."""

    number: int
    side: int
    left: Iterator[int]
    asked: list[int]


class Newcomers:
    """Prompts to be placed, beside all that are placed already, each in the order in which they came.

    `take` them, `learn` what those say that are `resembled` until nothing is asked for, and `place` them; then more
    can be taken. A settled prompt is half a kilobyte here, a newcomer that and eight bytes a shingle.
    """

    def __init__(self, settled: Iterable[Placed] = (), new: Iterable[tuple[str, str]] = ()) -> None:
        self._hashes: list[str] = []
        self._clusters: list[str] = []
        self._groups = bytearray()
        self._signatures = bytearray()
        self._shingles, self._ends = array("q"), array("q", [0])
        self._candidates: Candidates | None = None
        self._searches: list[_Search] = []
        self._near: dict[tuple[int, int], int] = {}
        """The oldest settled near-duplicate by newcomer and side."""
        for one in settled:
            self.know(one)
        self.take(new)

    def know(self, settled: Placed) -> None:
        """A prompt that is settled, after all that were settled before; to be called before any newcomer is taken."""
        own = settled.cluster == settled.prompt_hash
        self._hashes.append(settled.prompt_hash)
        self._signatures += settled.signature
        group = _BRIDGING if settled.bridges else SIDES.index(settled.side)
        self._settle(settled.prompt_hash if own else settled.cluster, group)

    @property
    def count_shingles(self) -> int:
        """Of the newcomers that wait to be placed."""
        return len(self._shingles)

    def take(self, new: Iterable[tuple[str, str]]) -> None:
        """Some more newcomers: the hash and the text of each. Not between `resembled` and the end of `place`."""
        from gateway.datasets.signatures import signature

        for prompt_hash, text in new:
            found = shingles(text)
            self._hashes.append(prompt_hash)
            self._signatures += signature(found)
            self._shingles.extend(map(hash, found))
            self._ends.append(len(self._shingles))

    def resembled(self) -> set[str]:
        """The hashes of settled prompts whose texts are needed next; none once enough is known to place them all."""
        from gateway.datasets.signatures import Candidates

        if self._candidates is None:
            self._candidates = Candidates(self._signatures, self._groups)
            self._searches = list(self._begin_searches(self._candidates))
        for search in self._searches:
            search.asked = list(islice(search.left, TEXTS_AT_ONCE))
        self._searches = [search for search in self._searches if search.asked]
        return {self._hashes[one] for search in self._searches for one in search.asked}

    def learn(self, texts: Mapping[str, str]) -> None:
        """What the `resembled` say; one whose text is gone is resembled by nobody."""
        theirs = {prompt_hash: set(map(hash, shingles(text))) for prompt_hash, text in texts.items()}
        for search in self._searches:
            own = self._said(search.number)
            for index in search.asked:
                if self._hashes[index] in theirs and overlap(own, theirs[self._hashes[index]]) >= NEAR:
                    self._near[search.number, search.side] = index
                    break
        self._searches = [one for one in self._searches if (one.number, one.side) not in self._near]

    def place(self, draw: Callable[[str], SplitSide]) -> Iterator[Placed]:
        """Where each newcomer lies. `draw`: the side of a prompt that resembles none, by its hash."""
        from gateway.datasets.signatures import SIGNATURE_BYTES, Candidates

        candidates = self._candidates or Candidates(self._signatures, self._groups)
        asked = candidates.asked
        for number in range(len(self._groups), len(self._hashes)):
            near = self._near_of(candidates, number) if number in asked else []
            prompt_hash = self._hashes[number]
            group = self._groups[near[0]] if near else SIDES.index(draw(prompt_hash))
            cluster = self._clusters[near[0]] if near else prompt_hash
            bridges = len(near) > 1
            candidates.settle(number, _BRIDGING if bridges else group)
            self._settle(cluster, _BRIDGING if bridges else group)
            at = number * SIGNATURE_BYTES
            signed = bytes(self._signatures[at : at + SIGNATURE_BYTES])
            yield Placed(prompt_hash, SIDES[group], cluster, bridges, signed)
        del candidates
        self._candidates, self._shingles, self._ends = None, array("q"), array("q", [0])
        self._searches.clear()
        self._near.clear()

    def _settle(self, cluster: str, group: int) -> None:
        self._clusters.append(cluster)
        self._groups.append(group)

    def _begin_searches(self, candidates: "Candidates") -> Iterator[_Search]:
        settled = len(self._groups)
        for number in candidates.asked:
            for side in range(len(SIDES)):
                yield _Search(number, side, candidates.before(number, side, 0, settled), [])

    def _near_of(self, candidates: "Candidates", number: int) -> list[int]:
        return sorted(one for side in range(len(SIDES)) for one in self._oldest_near(candidates, number, side))

    def _oldest_near(self, candidates: "Candidates", number: int, side: int) -> Iterator[int]:
        """The oldest near-duplicate on a side, if there is one: what was settled before is older."""
        if (number, side) in self._near:
            yield self._near[number, side]
            return
        first = len(self._hashes) - len(self._ends) + 1
        own: Set[int] | None = None
        for index in candidates.before(number, side, first, number):
            own = self._said(number) if own is None else own
            if overlap(own, self._said(index)) >= NEAR:
                yield index
                return

    def _said(self, number: int) -> set[int]:
        """The hashes of a newcomer's shingles."""
        place = number - (len(self._hashes) - len(self._ends) + 1)
        return set(self._shingles[self._ends[place] : self._ends[place + 1]])
