"""Gate 6b: the operator's own questions. What the model to beat failed already keeps nobody from serving."""

from alignment.gate.rules.evidence import Evidence
from alignment.gate.rules.finding import Finding, result
from gateway.contracts.release import GateResult
from gateway.sections.gates import GateSettings

CASES_GATE = "cases"


def cases_gate(evidence: Evidence, _: GateSettings) -> list[GateResult]:
    """A case that fails now and did not fail before."""
    if not evidence.cases:
        return []
    newly = [case for case in evidence.cases if case.failures and not case.failures_before]
    newly.sort(key=lambda case: case.severity == "warn")
    count = len(newly)
    findings = [Finding(case.severity, float(count), 0.0, f"{case.id} {', '.join(case.failures)}") for case in newly]
    failed = sum(bool(case.failures) for case in evidence.cases)
    good = Finding("pass", 0.0, 0.0, f"{len(evidence.cases)} cases, none newly failed; {failed} failed before too")
    return [result(CASES_GATE, findings or [good], n=len(evidence.cases))]
