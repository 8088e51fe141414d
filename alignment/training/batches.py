"""Which rows each optimiser step has, and how a step is cut so that it fits into memory."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from alignment.errors import OutOfMemory
from alignment.step.batch import Pair, Single, tokens_of
from alignment.training.memory import free_bytes

Row = Pair | Single

_MOST_AUTO_TOKENS = 16_384
_MOST_AUTO_TOKENS_ON_CPU = 1_024
"""A processor is no faster with more: its matrices are long enough, and what is kept no longer fits its caches."""
_MEMORY_SHARE = 0.4
"""Of what is free; the rest is for the optimiser, the output matrix and whatever else the machine does."""


class Planned(NamedTuple):
    """A row of a step, and the next row of the same step: what KTO mismatches it with."""

    row: Row
    next: Row


class PlannedRows(torch.utils.data.Dataset[Planned]):
    """Every row of the whole run in its order: shuffled passes end to end, so that every step is full.

    The order depends on nothing but the seed: neither on how many workers share a step nor on where a run was resumed.
    """

    def __init__(self, rows: Sequence[Row], steps: int, per_step: int, seed: int) -> None:
        self._rows, self._steps, self._per_step, self._seed = rows, steps, per_step, seed
        self._passes: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return self._steps * self._per_step

    def __getitem__(self, index: int) -> Planned:
        start = index - index % self._per_step
        return Planned(self._at(index), self._at(start + (index + 1 - start) % self._per_step))

    def _at(self, index: int) -> Row:
        number, place = divmod(index, len(self._rows))
        if number not in self._passes:
            shuffled = torch.Generator().manual_seed(self._seed + number)
            self._passes[number] = torch.randperm(len(self._rows), generator=shuffled).tolist()
        return self._rows[self._passes[number][place]]


class TokenBudget:
    """How many tokens are scored at once; shrinks when memory runs out."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def split(self, rows: Iterable[Planned]) -> Iterator[list[Planned]]:
        """The rows in parts of at most so many tokens, or of one row, in their order."""
        part: list[Planned] = []
        for row in rows:
            if part and sum(tokens_of(one.row) for one in (*part, row)) > self.tokens:
                yield part
                part = []
            part.append(row)
        if part:
            yield part

    def shrink(self, rows: Sequence[Planned]) -> None:
        """Ask for half of what the largest part of these rows had. Raises `OutOfMemory` if every row went alone."""
        parts = list(self.split(rows))
        if max(len(part) for part in parts) == 1:
            raise OutOfMemory(
                "memory ran out with a single pair at a time; lower max_length_tokens, turn gradient_checkpointing on, "
                "or train a smaller model"
            )
        largest = max(sum(tokens_of(one.row) for one in part) for part in parts if len(part) > 1)
        self.tokens = max(1, largest // 2)


def auto_tokens(config: Any, device: torch.device) -> int:
    """As many tokens as fit into the memory that is free, by an estimate of what the layers keep for each."""
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    kept = text.num_hidden_layers * (20 * text.hidden_size + 12 * inner)
    tokens = int(_MEMORY_SHARE * free_bytes(device) / (kept * (4 if device.type == "cpu" else 2)))
    return max(512, min(_MOST_AUTO_TOKENS_ON_CPU if device.type == "cpu" else _MOST_AUTO_TOKENS, tokens))
