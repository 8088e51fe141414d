"""The goals, and whether a run's figures meet them. Pure: rows in, lines out."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

OURS, OURS_2_WORKERS, REFERENCE, BASELINE = "alignway", "alignway-2-workers", "vllm-router", "direct"

Rows = Mapping[str, Mapping[str, Any]]
"""The rows of a run by name."""


@dataclass(frozen=True)
class Goal:
    """One goal and how far a run is from it."""

    text: str
    figure: float
    limit: float
    unit: str
    is_stretch: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the figure is within its limit."""
        return self.figure <= self.limit

    def line(self) -> str:
        """One line: met, or missed by how much."""
        verdict = "met" if self.is_met else f"MISSED by {self.figure - self.limit:.2f} {self.unit}{self._percent()}"
        stretch = " (stretch)" if self.is_stretch else ""
        return f"{self.text}{stretch}: {self.figure:.2f} {self.unit}, limit {self.limit:.2f}: {verdict}"

    def _percent(self) -> str:
        return f" ({100 * (self.figure / self.limit - 1):.0f} %)" if self.limit > 0 else ""


def median(row: Mapping[str, Any], *path: str) -> float:
    """The median over the windows of one figure; NaN if the row has none."""
    found: Any = row
    for name in path:
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    if isinstance(found, int | float):
        return float(found)
    return statistics.median(found) if found else float("nan")


def added(rows: Rows, name: str, *path: str) -> float:
    """How much more than without a gateway."""
    return median(rows[name], *path) - median(rows[BASELINE], *path)


def goals(rows: Rows, routers: list[str]) -> list[Goal]:
    """The goals this run can judge: those whose rows it has. `routers` are the Rust routers."""
    makers: list[Callable[[Rows, list[str]], list[Goal]]] = [_request, _chunk, _first_chunk, _memory, _workers]
    return [goal for make in makers for goal in make(rows, routers)]


def _request(rows: Rows, routers: list[str]) -> list[Goal]:
    if not {OURS, REFERENCE} <= rows.keys():
        return []
    figure, reference = (median(rows[name], "cpu_us_per_request") for name in (OURS, REFERENCE))
    return [
        Goal(f"CPU per request at most 0.8x {REFERENCE}'s", figure, 0.8 * reference, "us"),
        Goal(f"CPU per request at most 0.6x {REFERENCE}'s", figure, 0.6 * reference, "us", is_stretch=True),
    ]


def _chunk(rows: Rows, routers: list[str]) -> list[Goal]:
    if not {OURS, REFERENCE} <= rows.keys():
        return []
    figure, reference = (median(rows[name], "cpu_us_per_chunk") for name in (OURS, REFERENCE))
    lowest = min((median(rows[name], "cpu_us_per_chunk"), name) for name in routers if name in rows)
    return [
        Goal(f"CPU per chunk at most {REFERENCE}'s", figure, reference, "us"),
        Goal(f"CPU per chunk at most the lowest Rust router's ({lowest[1]})", figure, lowest[0], "us", is_stretch=True),
    ]


def _first_chunk(rows: Rows, routers: list[str]) -> list[Goal]:
    if not {OURS, BASELINE} <= rows.keys():
        return []
    return [Goal("added time to first chunk, p50", added(rows, OURS, "first_chunk_ms", "p50"), 1.0, "ms")]


def _memory(rows: Rows, routers: list[str]) -> list[Goal]:
    resident = [size for name, row in rows.items() if name.startswith(OURS) for size in row["worker_rss_mb"]]
    return [Goal("memory of the largest worker", max(resident), 100.0, "MB")] if resident else []


def _workers(rows: Rows, routers: list[str]) -> list[Goal]:
    if not {OURS, OURS_2_WORKERS} <= rows.keys():
        return []
    one, two = (median(rows[name], "cpu_us_per_request") for name in (OURS, OURS_2_WORKERS))
    return [Goal("CPU per request, 2 workers against 1, apart by", 100 * abs(two / one - 1), 10.0, "%")]
