"""The full demo's report as a picture. matplotlib is loaded only when one is drawn."""

from pathlib import Path
from typing import Any

from gateway.demo.full.report import FullReport
from gateway.demo.plot import AFTER_COLOUR, BEFORE_COLOUR, draw_lengths, draw_shares, draw_stages

BAD_COLOUR = "#c0392b"


def draw_full_report(report: FullReport, path: Path) -> None:
    """What was learnt, the canary's way, the stopped candidate and the one taken back, and the stages, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 10), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 6, height_ratios=(3, 3, 2.5))
    draw_shares(figure.add_subplot(grid[0, :3]), report)
    draw_lengths(figure.add_subplot(grid[0, 3:]), report)
    _draw_canary(figure.add_subplot(grid[1, :2]), report)
    _draw_stops(figure.add_subplot(grid[1, 2:4]), report)
    _draw_signals(figure.add_subplot(grid[1, 4:]), report)
    draw_stages(figure.add_subplot(grid[2, :]), report)
    figure.suptitle(f"{report.alias}: {'passed' if report.passed else 'failed'}")
    canvas.print_png(str(path))


def _draw_canary(axes: Any, report: FullReport) -> None:
    """The candidate's share over time, with the votes it had when each step ended."""
    at, seconds, shares = 0.0, [0.0], [0.0]
    for step in report.canary.steps:
        seconds.append(at)
        shares.append(100 * step.share)
        at += step.seconds
        axes.annotate(f"{step.wins} of {step.votes}\ne = {step.e_value:.3g}", (at, 100 * step.share), fontsize=8)
    seconds += [at, max(report.canary.seconds, at)]
    axes.step(seconds, [*shares, 100.0, 100.0], where="post", color=AFTER_COLOUR)
    axes.set_ylim(-2, 112)
    axes.set_xlabel("seconds since it was asked for")
    axes.set_ylabel("share of the traffic, %")
    axes.set_title("canary, and votes for the candidate", fontsize=11)


def _draw_stops(axes: Any, report: FullReport) -> None:
    """By how much the gates that block were missed."""
    stops = list(reversed(report.inverted.stopped_by))
    for row, stop in enumerate(stops):
        axes.barh(row, stop.value, color=BAD_COLOUR, height=0.5)
        axes.plot([stop.limit, stop.limit], [row - 0.4, row + 0.4], color="black")
        axes.text(stop.value, row + 0.3, f" {stop.value:.3g}, limit {stop.limit:.3g}", fontsize=8)
    axes.set_yticks(range(len(stops)), [stop.gate for stop in stops], fontsize=8)
    axes.set_title("inverted votes: figures and limits of the gates that block", fontsize=9)


def _draw_signals(axes: Any, report: FullReport) -> None:
    """Shares of bad answers of the broken release, beside those of the aligned one."""
    kinds = ("errors", "empty", "looping", "truncated")
    found = [signal for signal in report.sabotage.signals if signal.name in kinds]
    for row, signal in enumerate(found):
        axes.barh(row + 0.2, 100 * (signal.incumbent or 0.0), 0.4, color=BEFORE_COLOUR)
        axes.barh(row - 0.2, 100 * (signal.candidate or 0.0), 0.4, color=BAD_COLOUR if signal.bad else AFTER_COLOUR)
    axes.set_yticks(range(len(found)), [signal.name for signal in found], fontsize=8)
    axes.set_xlim(0, 105)
    axes.set_xlabel("% of answers; grey: the aligned release")
    axes.set_title("broken release: what rolled it back", fontsize=11)
