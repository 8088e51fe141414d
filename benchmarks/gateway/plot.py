"""A run as a picture: CPU per request and per chunk, on a logarithmic scale."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gateway.goals import BASELINE, OURS, Rows, median

OURS_COLOUR, OTHER_COLOUR, TEXT_COLOUR = "#c2410c", "#8a94a3", "#1f2430"
PANELS = (("cpu_us_per_request", "CPU per request"), ("cpu_us_per_chunk", "CPU per streamed chunk"))


def draw(run: Mapping[str, Any], path: Path) -> None:
    """Write the picture as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows: Rows = run["figures"]["rows"]
    height = 1.6 + 0.34 * len(rows)
    figure = Figure(figsize=(11, height), layout="constrained", facecolor="white")
    for axes, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        _draw_bars(axes, rows, name, title)
    figure.suptitle("What a gateway costs (microseconds of CPU, whole process tree; less is better)", color=TEXT_COLOUR)
    figure.supxlabel(
        f"one run, {run['at'][:10]}, one core for the gateway; logarithmic scale", fontsize=9, color=TEXT_COLOUR
    )
    FigureCanvasAgg(figure).print_png(str(path))


def _draw_bars(axes: Any, rows: Rows, name: str, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    measured = [row for row in rows if row != BASELINE and median(rows[row], name) > 0]
    names = sorted(measured, key=lambda row: median(rows[row], name), reverse=True)
    values = [median(rows[row], name) for row in names]
    colours = [OURS_COLOUR if row.startswith(OURS) else OTHER_COLOUR for row in names]
    axes.barh(names, values, color=colours, height=0.7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(min(values, default=1) / 2, max(values, default=1) * 3)
    for place, value in enumerate(values):
        axes.text(value * 1.06, place, f"{value:,.0f}", va="center", fontsize=9, color=TEXT_COLOUR)
    axes.set_title(title, fontsize=11, color=TEXT_COLOUR)
    axes.set_xlabel("us", color=TEXT_COLOUR)
    axes.tick_params(colors=TEXT_COLOUR, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
