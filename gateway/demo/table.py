"""The report as tables for a terminal."""

from collections.abc import Callable

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.demo.report import DemoReport, LearningReport, Measured, describe_control


def print_report(report: DemoReport, console: Console) -> None:
    """Figures, controls, stage times and the verdict."""
    figures, stages = figures_table(report), stages_table(report)
    console.print(Group(figures, _checks(report), stages, *example_panels(report), _verdict(report)))


def figures_table(report: LearningReport) -> Table:
    """Style, length and the gates' own figures, before and after."""
    table = Table(title=f"Before and after, on {len(report.words_before)} unseen prompts", title_justify="left")
    for column in ("", "before", "after", "difference (95 %)"):
        table.add_column(column, justify="left" if not column else "right")
    found = report.difference
    interval = f"{found.points:+.1f} points ({found.low:+.1f} to {found.high:+.1f})"
    table.add_row("answers in style", f"{report.style_before:.0%}", f"{report.style_after:.0%}", interval)
    before, after = report.median_words_before, report.median_words_after
    table.add_row("median words", f"{before:g}", f"{after:g}", f"{after - before:+g}")
    table.add_row("holdout preference accuracy", *_measured(report.holdout_accuracy, "{:.1%}", _in_points))
    table.add_row("perplexity, own text", *_measured(report.perplexity, "{:.2f}", _relative))
    return table


def _measured(measured: Measured, form: str, change: Callable[[float, float], str]) -> tuple[str, str, str]:
    before, after = measured.before, measured.after
    shown = ["not measured" if value is None else form.format(value) for value in (before, after)]
    return shown[0], shown[1], "" if before is None or after is None else change(before, after)


def _in_points(before: float, after: float) -> str:
    return f"{100 * (after - before):+.1f} points"


def _relative(before: float, after: float) -> str:
    return f"{after / before - 1:+.1%}" if before else ""


def _checks(report: DemoReport) -> Table:
    streams, rollback, table = report.streams, report.rollback, controls_table(report)
    unbroken = bool(streams.answers) and not streams.failed and not streams.mixed
    counts = f"{streams.answers} answers, {streams.failed} failed, {streams.mixed} mixed"
    waits = f"longest stall {streams.max_stall_seconds:.2f} s, longest wait {streams.max_wait_seconds:.2f} s"
    table.add_row(mark(unbroken), f"{streams.streams} streams during the swap: {counts}; {waits}")
    restored = f"{rollback.restored} of {rollback.compared} greedy answers are back"
    table.add_row(mark(rollback.complete), f"rollback: {restored} after {rollback.seconds:.1f} s")
    return table


def controls_table(report: LearningReport) -> Table:
    """What must hold, so far the controls; there is room for more below."""
    table = Table(title="Must hold", title_justify="left", show_header=False)
    for control in report.controls:
        table.add_row(mark(control.holds), describe_control(control))
    return table


def mark(holds: bool) -> Text:
    """Whether it holds, to be seen at a glance."""
    return Text("ok", style="green") if holds else Text("FAILED", style="bold red")


def stages_table(report: LearningReport) -> Table:
    """How long each stage took."""
    teaching = report.teaching
    taught = f"{teaching.corrections} corrections, {teaching.votes} votes, {teaching.pairs} pairs"
    table = Table(title="Stages", title_justify="left", show_header=False)
    for stage in report.stages:
        table.add_row(stage.name, f"{stage.seconds:.1f} s", taught if stage.name == "teach" else "")
    return table


def example_panels(report: LearningReport) -> list[Panel]:
    """A few prompts with both answers."""
    panels = []
    for example in report.examples:
        text = Text.assemble(("before  ", "dim"), example.before.strip(), ("\nafter   ", "dim"), example.after.strip())
        panels.append(Panel(text, title=Text(example.prompt), title_align="left"))
    return panels


def _verdict(report: DemoReport) -> Text:
    if report.passed:
        return Text("The loop works: asked, preferred, aligned, swapped, rolled back.", style="bold green")
    return Text("\n".join(["The demo failed:", *(f"- {reason}" for reason in report.reasons)]), style="bold red")
