"""Gate 6b: the operator's own questions. What the model to beat failed already keeps nobody from serving."""

from alignment.gate.rules.evidence import CaseOutcome, Evidence
from alignment.gate.rules.finding import Check, Good, Level, result
from gateway.contracts.release import GateResult
from gateway.sections.gates import GateSettings

CASES_GATE = "cases"


def cases_gate(evidence: Evidence, _: GateSettings) -> list[GateResult]:
    """A case that fails now and did not fail before."""
    if not evidence.cases:
        return []
    newly = [case for case in evidence.cases if case.failures and not case.failures_before]
    failed = sum(bool(case.failures) for case in evidence.cases)
    good = Good(0.0, 0.0, f"{len(evidence.cases)} cases, none newly failed; {failed} failed before too")
    return [result(CASES_GATE, [_check(newly, "block"), _check(newly, "warn")], good, n=len(evidence.cases))]


def _check(newly: list[CaseOutcome], level: Level) -> Check:
    cases = [case for case in newly if case.severity == level]
    reason = "; ".join(f"{case.id} {', '.join(case.failures)}" for case in cases)
    return Check(f"newly_failed_{level}", level, float(len(cases)), 0.0, "above", reason)
