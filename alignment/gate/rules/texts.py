"""Gate 3: general text must not become unlikely, against the base and against the incumbent."""

from alignment.gate.rules.evidence import Evidence
from alignment.gate.rules.finding import Finding, result
from gateway.contracts.release import GateResult
from gateway.sections.gates import GateSettings

PERPLEXITY_GATE = "perplexity"


def perplexity_gates(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """A gate for each language and each model it is compared with, if those differ."""
    found = []
    for one in evidence.perplexity:
        name = PERPLEXITY_GATE if one.language == "en" else f"{PERPLEXITY_GATE}_{one.language}"
        found.append(result(name, [_finding(one.candidate, one.base, "the base", limits)]))
        if one.incumbent != one.base:
            finding = _finding(one.candidate, one.incumbent, "the incumbent", limits)
            found.append(result(f"{name}_incumbent", [finding]))
    return found


def _finding(candidate: float, other: float, who: str, limits: GateSettings) -> Finding:
    rise = candidate / other - 1
    figures = f"{100 * rise:+.2f} % against {who} ({candidate:.2f} against {other:.2f})"
    # Not `rise > limit`: a perplexity that is not a number must block.
    if not rise <= limits.perplexity_block:
        return Finding("block", rise, limits.perplexity_block, f"general text got much less likely: {figures}")
    if rise > limits.perplexity_warn:
        return Finding("warn", rise, limits.perplexity_warn, f"general text got less likely: {figures}")
    return Finding("pass", rise, limits.perplexity_block, f"general text is as likely as before: {figures}")
