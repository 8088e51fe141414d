"""On which side of the split new prompts come to lie: that of their oldest near-duplicate, else a keyed draw. Pure.

What is settled stays. A prompt that resembles prompts of both sides is used on neither: so no prompt to train on ever
resembles one to measure on, whatever the order in which they come.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.datasets.shingles import NEAR, overlap, shingles
from gateway.datasets.signatures import Candidates, signature
from gateway.datasets.split import SplitSide


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


class Newcomers:
    """Prompts to be placed, beside all that are placed already, each in the order in which they came."""

    def __init__(self, settled: Sequence[Placed], new: Sequence[tuple[str, str]]) -> None:
        """`new`: the hash and the text of each."""
        self._settled = settled
        self._hashes = [prompt_hash for prompt_hash, _ in new]
        self._shingles = [shingles(text) for _, text in new]
        own = [signature(one) for one in self._shingles]
        candidates = Candidates([one.signature for one in settled] + own, len(settled))
        self._signatures = own
        self._candidates = [candidates.of(len(settled) + number) for number in range(len(new))]

    def resembled(self) -> set[str]:
        """The hashes of the settled prompts whose texts are needed: those that some newcomer may resemble."""
        settled = len(self._settled)
        return {self._settled[one].prompt_hash for found in self._candidates for one in found if one < settled}

    def place(self, texts: Mapping[str, str], draw: Callable[[str], SplitSide]) -> list[Placed]:
        """Where each newcomer lies.

        texts   of the `resembled`; one whose text is gone is resembled by nobody
        draw    the side of a prompt that resembles none, by its hash
        """
        theirs = {prompt_hash: shingles(text) for prompt_hash, text in texts.items()}
        placed = list(self._settled)
        for number, prompt_hash in enumerate(self._hashes):
            near = self._near(number, placed, theirs)
            own = self._signatures[number]
            if near:
                placed.append(Placed(prompt_hash, near[0].side, near[0].cluster, len(near) > 1, own))
            else:
                placed.append(Placed(prompt_hash, draw(prompt_hash), prompt_hash, False, own))
        return placed[len(self._settled) :]

    def _near(self, number: int, placed: Sequence[Placed], theirs: Mapping[str, set[str]]) -> list[Placed]:
        """The oldest near-duplicate on each side, the older first."""
        near: dict[SplitSide, Placed] = {}
        settled = len(self._settled)
        for index in self._candidates[number]:
            other = placed[index]
            if other.bridges or other.side in near:
                continue
            said = self._shingles[index - settled] if index >= settled else theirs.get(other.prompt_hash)
            if said is not None and overlap(self._shingles[number], said) >= NEAR:
                near[other.side] = other
        return list(near.values())
