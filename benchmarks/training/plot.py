"""A recorded run as a picture: seconds a step and peak memory of each trainer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.training.table import OURS, value

OURS_COLOUR, OTHER_COLOUR, FLOOR_COLOUR = "#c2410c", "#8a94a3", "#1f2430"


def draw(run: Mapping[str, Any], path: Path) -> None:
    """Write the picture as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = run["figures"]["sets"]
    figure = Figure(figsize=(11, 2.8 * len(sets)), layout="constrained", facecolor="white")
    axes = figure.subplots(len(sets), 2, squeeze=False)
    for (name, measured), (left, right) in zip(sets.items(), axes, strict=True):
        rows = {row: figures for row, figures in measured["rows"].items() if "failed" not in figures}
        _bars(left, rows, "steps", f"{name}: seconds a step", "{:.1f}")
        left.axvline(measured["floor_seconds_per_step"], color=FLOOR_COLOUR, linestyle=":", label="floor")
        left.legend(frameon=False, fontsize=8)
        _bars(right, rows, "peak_mib", f"{name}: peak memory, MiB", "{:,.0f}")
    figure.suptitle(f"An ORPO step, {run['figures']['model']} on {run['figures']['device']} (less is better)")
    FigureCanvasAgg(figure).print_png(str(path))


def _bars(axes: Any, rows: Mapping[str, Any], figure: str, title: str, shown: str) -> None:
    names = list(rows)[::-1]
    values = [value(rows[name], figure) for name in names]
    axes.barh(names, values, color=[OURS_COLOUR if name.startswith(OURS) else OTHER_COLOUR for name in names])
    axes.set_xlim(0, max(values, default=1) * 1.15)
    for place, figure_ in enumerate(values):
        axes.text(figure_, place, " " + shown.format(figure_), va="center", fontsize=9)
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
