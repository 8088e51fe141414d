"""The gates of a release as people read them: verdicts, every limit with how far to trust it, and changed answers."""

from typing import Any

from rich.table import Table

from gateway.commands.options import console, copied, folded
from gateway.contracts.gate_report import POWER, Calibration, GateReport
from gateway.contracts.release import GateResult, Limit

_SHOWN_CHARACTERS = 400


def print_report(report: GateReport) -> None:
    """The whole report."""
    console.print(f"{report.name}: {report.verdict}; compared with {report.compared_with or 'the base model'}")
    verdicts = Table(*copied("gate"), "verdict", "n", *folded("reason"))
    for gate in report.gates:
        verdicts.add_row(gate.gate, gate.verdict, str(gate.n or "-"), gate.reason)
    console.print(verdicts)
    limits = Table("gate", "limit", "level", "figure", "95 %", "wrong side", "crossed", "false alarms", "sees from")
    for gate in report.gates:
        for limit in gate.limits:
            limits.add_row(*_cells(gate, limit))
    if limits.row_count:
        console.print(limits)
        console.print(calibration_told(report.calibration), markup=False)
    for answer in report.changed_answers:
        console.print(f"\n{100 * answer.changed_share:.0f} % of the words changed", style="bold")
        for title, text in (("prompt", answer.prompt), ("candidate", answer.candidate), ("before", answer.incumbent)):
            console.print(f"  {title:10} {_shortened(text)}", markup=False)
    console.print(_next(report), markup=False)


def calibration_told(calibration: Calibration | None) -> str:
    """What stands behind the false alarms and the smallest effects."""
    if calibration is None:
        return "False alarms are not known yet: alignway gates calibrate"
    return (
        f"False alarms: share of {calibration.draws} comparisons without a difference that crossed the limit "
        f"({calibration.subject}; {calibration.holdout_pairs} held-out pairs, {calibration.made_at:%Y-%m-%d}). "
        f"Sees from: the change that crosses it in {100 * POWER:.0f} % of cases."
    )


def noise_cells(share: float | None, effect: float | None) -> tuple[str, str]:
    """A false alarm share and a smallest effect."""
    return "-" if share is None else f"{100 * share:.1f} %", "-" if effect is None else f"{effect:.4g}"


def _cells(gate: GateResult, limit: Limit) -> tuple[Any, ...]:
    bounds = "-" if limit.low is None or limit.high is None else f"{limit.low:.4g} to {limit.high:.4g}"
    crossed = "yes" if limit.crossed else "no"
    figures = (f"{limit.value:.4g}", bounds, f"{limit.side} {limit.limit:.4g}", crossed)
    return gate.gate, limit.name, limit.level, *figures, *noise_cells(limit.false_alarm_share, limit.smallest_effect)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"


def _next(report: GateReport) -> str:
    promote = f"alignway releases promote {report.name}"
    if report.verdict == "block":
        return (
            "A gate blocks it: it may not serve. Mend the data or the limits ([gates], docs/gates.md), and train again."
        )
    return f"Next: {promote}" + (' --reason "why it may serve all the same"' if report.verdict == "warn" else "")
