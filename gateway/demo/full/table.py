"""The full demo's report as tables for a terminal."""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from gateway.contracts.release import GateResult
from gateway.demo.full.report import FullReport, Stop
from gateway.demo.table import controls_table, example_panels, figures_table, mark, stages_table

STYLES = {"pass": "green", "warn": "yellow", "block": "bold red"}


def gates_table(gates: Sequence[GateResult]) -> Table:
    """What each gate measured, its limit, and what it says."""
    table = Table("gate", "verdict", "value", "limit", "reason")
    for gate in gates:
        verdict = Text(gate.verdict, style=STYLES[gate.verdict])
        table.add_row(gate.gate, verdict, f"{gate.value:.3g}", f"{gate.limit:.3g}", Text(gate.reason))
    return table


def print_full_report(report: FullReport, console: Console) -> None:
    """Figures, the three trials, stage times and the verdict."""
    console.print(
        Group(
            figures_table(report),
            _canary(report),
            _trials(report),
            _signals(report),
            stages_table(report),
            *example_panels(report),
            _verdict(report),
        )
    )


def _canary(report: FullReport) -> Table:
    table = Table(
        "share", "lasted", "requests", "votes for it", "e-value", "then", title="Canary", title_justify="left"
    )
    for step in report.canary.steps:
        votes = f"{step.wins} of {step.votes}"
        lasted = f"{step.seconds:.0f} s"
        table.add_row(f"{step.share:.0%}", lasted, str(step.requests), votes, f"{step.e_value:.3g}", Text(step.ended))
    return table


def _trials(report: FullReport) -> Table:
    table = controls_table(report)
    users, inverted, sabotage = report.canary.users, report.inverted, report.sabotage
    served = f"{users.answers} answers to people, {users.failed} failed, {users.moved_back} people moved back"
    sound = not users.failed and not users.moved_back and not users.strangers
    table.add_row(mark(sound), f"canary: {served}; {report.canary.seconds:.0f} s to all traffic")
    for stop in inverted.stopped_by:
        table.add_row(mark(True), f"inverted votes ({inverted.pairs} pairs) stopped by {_stop(stop)}")
    table.add_row(mark(bool(inverted.refusal)), Text(f"its promotion: {inverted.refusal or 'was not refused'}"))
    taken = f"rolled back by {sabotage.actor} after {sabotage.harmed} of its answers"
    seconds = f"{sabotage.first_answer_to_rollback_seconds:.1f} s from the first of them"
    table.add_row(mark(any(signal.bad for signal in sabotage.signals)), f"broken release: {taken}, {seconds}")
    restored = f"{sabotage.restored} of {sabotage.compared} greedy answers of the aligned release are back"
    table.add_row(mark(0 < sabotage.compared == sabotage.restored), restored)
    return table


def _stop(stop: Stop) -> str:
    return f"{stop.gate}: {stop.value:.3g}, limit {stop.limit:.3g}, missed by {stop.over:.3g} ({stop.reason})"


def _signals(report: FullReport) -> Table:
    title = f"Evidence of the rollback of {report.sabotage.release_name}"
    table = Table("signal", "", "figures", title=title, title_justify="left")
    for signal in report.sabotage.signals:
        table.add_row(signal.name, Text("BAD", style="bold red") if signal.bad else "ok", Text(signal.reason))
    return table


def _verdict(report: FullReport) -> Text:
    if report.passed:
        told = "All of it works: aligned, tried on a share, promoted; the bad one stopped, the broken one taken back."
        return Text(told, style="bold green")
    return Text("\n".join(["The demo failed:", *(f"- {reason}" for reason in report.reasons)]), style="bold red")
