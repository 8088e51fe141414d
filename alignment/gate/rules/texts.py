"""Gate 3: general text must not become unlikely, against the base and against the incumbent."""

from alignment.gate.rules.evidence import Evidence
from alignment.gate.rules.finding import Check, Good, result
from gateway.contracts.release import GateResult
from gateway.sections.gates import GateSettings

PERPLEXITY_GATE = "perplexity"


def perplexity_gates(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """A gate for each language and each model it is compared with, if those differ."""
    found = []
    for one in evidence.perplexity:
        name = PERPLEXITY_GATE if one.language == "en" else f"{PERPLEXITY_GATE}_{one.language}"
        found.append(_gate(name, one.candidate, one.base, "the base", limits))
        if one.incumbent != one.base:
            found.append(_gate(f"{name}_incumbent", one.candidate, one.incumbent, "the incumbent", limits))
    return found


def _gate(name: str, candidate: float, other: float, who: str, limits: GateSettings) -> GateResult:
    rise = candidate / other - 1
    figures = f"{100 * rise:+.2f} % against {who} ({candidate:.2f} against {other:.2f})"
    much, less = (f"general text got {how} likely: {figures}" for how in ("much less", "less"))
    checks = [
        Check("rise", "block", rise, limits.perplexity_block, "above", much),
        Check("rise", "warn", rise, limits.perplexity_warn, "above", less),
    ]
    good = Good(rise, limits.perplexity_block, f"general text is as likely as before: {figures}")
    return result(name, checks, good)
