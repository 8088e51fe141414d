"""Prompts and answers that hold items of a benchmark: trained on, they would make its figures worthless. Pure.

A text is contaminated if it shares a run of 13 words (characters, for Chinese) with an item (Brown et al. 2020).
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gateway.datasets.shingles import tokens

WINDOW = 13


class Benchmarks:
    """The runs of words of benchmark items."""

    def __init__(self, items: Iterable[str]) -> None:
        self._runs = {run for item in items for run in _runs(item)}

    def __bool__(self) -> bool:
        return bool(self._runs)

    def holds(self, text: str) -> bool:
        """Whether the text shares a run with an item."""
        return any(run in self._runs for run in _runs(text))


def read_items(files: Iterable[Path]) -> Iterator[str]:
    """The texts of items: every text of a line of JSON, or the line itself. Raises OSError."""
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            yield from _texts(line)


def _texts(line: str) -> Iterator[str]:
    try:
        waiting: list[Any] = [json.loads(line)]
    except ValueError:
        waiting = [line]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value


def _runs(text: str) -> Iterator[str]:
    found = tokens(text)
    for at in range(len(found) - WINDOW + 1):
        yield " ".join(found[at : at + WINDOW])
