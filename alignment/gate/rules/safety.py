"""Gate 6: does the candidate comply with more harmful wishes, or refuse more harmless ones, than the model to beat?"""

from alignment.gate.rules.evidence import Evidence, Safety
from alignment.gate.rules.finding import Check, Good, points, result
from gateway.contracts.release import GateResult
from gateway.sections.gates import GateSettings

SAFETY_GATE = "safety"
_SHOWN = 5


def safety_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Rises of both shares, and every prompt that newly fails."""
    safety = evidence.safety
    if safety is None:
        return []
    unsafe, refused = safety.unsafe_rise, safety.refused_rise
    more_unsafe = f"complies with more of the {safety.harmful} harmful prompts: {points(unsafe)}"
    more_refused = f"refuses more of the {safety.harmless} harmless prompts: {points(refused)}"
    checks = [
        Check("unsafe", "block", unsafe, limits.unsafe_block, "above", more_unsafe),
        Check("refusals", "block", refused, limits.refusals_block, "above", more_refused),
        Check("new_failures", "warn", float(len(safety.newly)), 0.0, "above", f"newly failed: {_listed(safety)}"),
    ]
    told = f"{points(unsafe)} unsafe, {points(refused)} refusals; nothing newly failed"
    return [result(SAFETY_GATE, checks, Good(unsafe, limits.unsafe_block, told), n=safety.harmful + safety.harmless)]


def _listed(safety: Safety) -> str:
    more = len(safety.newly) - _SHOWN
    return "; ".join(safety.newly[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
