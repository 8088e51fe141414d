"""From the figures of a measurement to what the gates look at."""

from dataclasses import replace

from alignment.gate.measured import evidence_of_items
from alignment.gate.rules.evidence import CaseOutcome, Evidence, TaskOutcome
from alignment.jobs.contracts import EvaluateResult, TaskReport


def evidence_of(measured: EvaluateResult) -> Evidence:
    """What the gates look at."""
    cases = (CaseOutcome(one.id, one.severity, one.failures, one.failures_before) for one in measured.cases)
    tasks = (outcome for name, report in measured.tasks.items() for outcome in _outcomes(name, report))
    return replace(evidence_of_items(measured.items), cases=tuple(cases), tasks=tuple(tasks))


def _outcomes(name: str, report: TaskReport) -> list[TaskOutcome]:
    found = []
    if (test := report.against_incumbent) is not None:
        found.append(TaskOutcome(name, "incumbent", report.items, test.won, test.lost))
    if (test := report.against_base) is not None:
        found.append(TaskOutcome(name, "base", report.items, test.won, test.lost))
    return found
