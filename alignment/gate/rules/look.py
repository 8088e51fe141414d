"""Gate 7: a person looks at the answers that changed. Asked only where the settings require it."""

from alignment.gate.rules.evidence import Evidence
from alignment.gate.rules.finding import Check, Good, result
from gateway.contracts.release import GateResult
from gateway.sections.gates import GateSettings

LOOK_GATE = "human_look"


def look_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Warns if any answer changed, so that whoever promotes gives a reason, and nothing is promoted unattended."""
    if not limits.look_required:
        return []
    changed = evidence.changed_answers
    if changed is None:
        told, value = "no answers were written to look at, but a look is required (gates.look_required)", 1.0
    else:
        told, value = f"{changed} answers read otherwise: look at them (alignway releases gates), then say why", changed
    check = Check("changed", "warn", float(value), 0.0, "above", told)
    return [result(LOOK_GATE, [check], Good(0.0, 0.0, "every answer reads as before"))]
