"""From the figures of a measurement to what the gates look at."""

from alignment.gate.measured import evidence_of_items
from alignment.gate.rules.evidence import CaseOutcome, Evidence
from alignment.jobs.contracts import EvaluateResult


def evidence_of(measured: EvaluateResult) -> Evidence:
    """What the gates look at."""
    cases = (CaseOutcome(one.id, one.severity, one.failures, one.failures_before) for one in measured.cases)
    return evidence_of_items(measured.items, tuple(cases))
