"""The report as files: JSON, and a picture. matplotlib is loaded only when one is drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gateway.demo.report import DemoReport, LearningReport

Report = TypeVar("Report", bound=LearningReport)

BEFORE_COLOUR, AFTER_COLOUR = "#8a8f98", "#1f77b4"
JSON_FILE, PLOT_FILE = "report.json", "report.png"


def save_report(report: Report, folder: Path, draw: Callable[[Report, Path], None]) -> tuple[Path, Path]:
    """Write `report.json`, and `report.png` with `draw`; the folder is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    json_path, plot_path = folder / JSON_FILE, folder / PLOT_FILE
    json_path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    draw(report, plot_path)
    return json_path, plot_path


def draw_report(report: DemoReport, path: Path) -> None:
    """Style share, answer lengths and the stages over time, as one PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 2))
    draw_shares(figure.add_subplot(grid[0, 0]), report)
    draw_lengths(figure.add_subplot(grid[0, 1]), report)
    draw_stages(figure.add_subplot(grid[1, :]), report)
    figure.suptitle(f"{report.alias}: {'passed' if report.passed else 'failed'}")
    canvas.print_png(str(path))


def draw_shares(axes: Any, report: LearningReport) -> None:
    """Share of answers in style, with the interval of the gain."""
    before, after, found = 100 * report.style_before, 100 * report.style_after, report.difference
    axes.bar(["before", "after"], [before, after], color=[BEFORE_COLOUR, AFTER_COLOUR], width=0.6)
    # The interval is of the difference; drawn on the second bar it says where that bar's top may lie over the first.
    margins = [[max(0.0, found.points - found.low)], [max(0.0, found.high - found.points)]]
    axes.errorbar([1], [after], yerr=margins, color="black", capsize=6)
    axes.set_ylim(0, max(105.0, after + margins[1][0] + 2))
    axes.set_ylabel("answers in style, %")
    axes.set_title(f"{found.points:+.1f} points, 95 % {found.low:+.1f} to {found.high:+.1f}", fontsize=11)


def draw_lengths(axes: Any, report: LearningReport) -> None:
    """How long the answers are."""
    longest = max((*report.words_before, *report.words_after, 10))
    edges = [longest * step / 20 for step in range(21)]
    axes.hist(report.words_before, edges, alpha=0.7, color=BEFORE_COLOUR, label="before")
    axes.hist(report.words_after, edges, alpha=0.7, color=AFTER_COLOUR, label="after")
    medians = f"median {report.median_words_before:g} then {report.median_words_after:g} words"
    axes.set_title(medians, fontsize=11)
    axes.set_xlabel("words in an answer")
    axes.set_ylabel("answers")
    axes.legend()


def draw_stages(axes: Any, report: LearningReport) -> None:
    """When each stage was, and for how long."""
    stages = list(reversed(report.stages))
    for row, stage in enumerate(stages):
        axes.barh(row, stage.seconds, left=stage.started_seconds, color=AFTER_COLOUR)
        axes.text(stage.started_seconds + stage.seconds, row, f" {stage.seconds:.0f} s", va="center", fontsize=8)
    axes.set_yticks(range(len(stages)), [stage.name for stage in stages])
    axes.set_xlabel("seconds since the start")
    axes.margins(x=0.06)
