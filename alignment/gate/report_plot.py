"""Each figure of the gates with its interval beside the limit it is held to, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.contracts.release import GateResult, Limit

_BEYOND = 1e300
"""What was not a number is kept as the largest there is."""
_COLOURS = {"warn": "tab:orange", "block": "tab:red"}


def plot_limits(gates: Sequence[GateResult], path: Path) -> None:
    """A row for each limit, its wrong side shaded; the same gates give the same bytes."""
    # Imported late: it is heavy, and only a finished run needs it. The figure is made without pyplot: no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [(gate.gate, limit) for gate in gates for limit in gate.limits]
    figure = Figure(figsize=(9, 0.6 + 0.55 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, (gate, limit) in zip(rows, shown, strict=True):
        _draw(axes, gate, limit)
    # No time and no version in the file.
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _draw(axes: Any, gate: str, limit: Limit) -> None:
    colour = _COLOURS[limit.level]
    low, high = span(limit)
    axes.set_xlim(low, high)
    axes.axvspan(*((limit.limit, high) if limit.side == "above" else (low, limit.limit)), color=colour, alpha=0.15)
    axes.axvline(limit.limit, color=colour)
    if limit.low is not None and limit.high is not None:
        axes.plot([limit.low, limit.high], [0, 0], color="black", linewidth=2)
    axes.plot([limit.value], [0], "o", color=colour if limit.crossed else "black")
    axes.set_ylim(-1, 1)
    axes.set_yticks([0], [f"{gate}\n{limit.name}, {limit.level}"], fontsize=7)
    axes.tick_params(axis="x", labelsize=7)


def span(limit: Limit) -> tuple[float, float]:
    """The part of the axis that shows figure, interval and limit, with room at both ends; what is no number is left."""
    given = (limit.value, limit.limit, limit.low, limit.high)
    shown = [one for one in given if one is not None and abs(one) < _BEYOND]
    room = 0.1 * (max(shown) - min(shown)) or 0.1 * abs(shown[0]) or 1.0
    return min(shown) - room, max(shown) + room
