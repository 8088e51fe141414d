"""What clients heard while weights were exchanged, and the figures of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.record import quantiles

Window = tuple[float, float]
"""From when to when something went on, on the monotonic clock."""


@dataclass
class Heard:
    """What the clients saw."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    mixed: int = 0
    first_chunk_seconds: list[tuple[float, float]] = field(default_factory=list)
    """When a request was sent, and how long its first chunk took."""


def figures(heard: Heard, windows: Sequence[Window], streams: int) -> dict[str, Any]:
    """The figures of one run; newcomers are requests sent while a promotion was under way."""
    newcomers, others = told_apart(heard, windows)
    return {
        "swaps": len(windows),
        "streams": streams,
        "answers": heard.answers,
        "failed": len(heard.failures),
        "mixed": heard.mixed,
        "failures": heard.failures[:5],
        "promotion_seconds": quantiles([end - begin for begin, end in windows]),
        "newcomer_first_chunk_seconds": quantiles(newcomers),
        "other_first_chunk_seconds": quantiles(others),
    }


def told_apart(heard: Heard, windows: Sequence[Window]) -> tuple[list[float], list[float]]:
    """How long first chunks took of requests sent within the windows, and of all others."""
    inside: list[float] = []
    outside: list[float] = []
    for sent, wait in heard.first_chunk_seconds:
        (inside if any(begin <= sent <= end for begin, end in windows) else outside).append(wait)
    return inside, outside
