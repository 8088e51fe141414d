"""May a release be promoted without a person? A pure rule over what its gates say."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.contracts.release import PREFERENCE_GATE, GateResult

LEAST_PAIRS = 200


def gates_of(manifest: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """What the gates said of a release, by its manifest; empty for a base."""
    return tuple(GateResult.model_validate(gate) for gate in manifest.get("gates", ()))


def unattended_ok(gates: Sequence[GateResult], least_pairs: int = LEAST_PAIRS) -> tuple[bool, str]:
    """Whether every gate is green and the gain over the incumbent is sure, on enough held-out pairs; and why not."""
    if not gates:
        return False, "no gate was asked"
    for gate in gates:
        if gate.verdict != "pass":
            return False, f"{gate.gate}: {gate.verdict}: {gate.reason}"
    preference = next((gate for gate in gates if gate.gate == PREFERENCE_GATE), None)
    if preference is None or preference.low is None or preference.n is None:
        return False, "the gain over the incumbent was not measured"
    if preference.n < least_pairs:
        return False, f"the gain was measured on {preference.n} held-out pairs; it takes {least_pairs}"
    if not preference.low > 0:
        return False, f"the gain is not sure: its lower 95 % bound is {preference.low:.3f}, not above 0"
    return True, f"every gate is green; the gain is at least {preference.low:.3f} on {preference.n} held-out pairs"
