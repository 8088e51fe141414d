"""Which token of a flat batch may see which: backwards, its own prompt and its own completion. Integers only."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from alignment.step.batch import Lengths
from alignment.step.targets import CHOSEN, PROMPT, REJECTED


class Places(NamedTuple):
    """Where each of the T tokens of a flat batch stands; each (T,) int64."""

    pairs: Tensor
    """Number of the pair, from 0."""
    parts: Tensor
    """PROMPT, CHOSEN or REJECTED."""
    positions: Tensor
    """Counted from the beginning of [prompt | completion]: both completions follow the prompt."""

    def to(self, device: torch.device) -> "Places":
        """The same on the device."""
        return Places(*(one.to(device) for one in self))


def places_of(batch: Sequence[Lengths]) -> Places:
    """The places of pairs that lie end to end."""
    totals = torch.tensor([one.total for one in batch])
    sizes = torch.tensor([[one.prompt, one.chosen, one.rejected] for one in batch]).flatten()
    parts = torch.tensor([PROMPT, CHOSEN, REJECTED]).repeat(len(batch))
    positions = [
        torch.cat([torch.arange(one.prompt + one.chosen), one.prompt + torch.arange(one.rejected)]) for one in batch
    ]
    return Places(
        torch.arange(len(batch)).repeat_interleave(totals), parts.repeat_interleave(sizes), torch.cat(positions)
    )


def sees(places: Places, query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """Whether the tokens at indices `query` see those at `key`: bool, of the shape that the two broadcast to.

    `window`: so many tokens at most, the asking one included; None: all that came before.
    """
    key_parts = places.parts[key]
    seen = (key <= query) & (places.pairs[key] == places.pairs[query])
    seen = seen & ((key_parts == PROMPT) | (key_parts == places.parts[query]))
    if window is None:
        return seen
    return seen & (places.positions[query] - places.positions[key] < window)
