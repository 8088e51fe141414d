"""Gate 1: does the candidate prefer what people chose, more than the incumbent and the base do?"""

from alignment.gate.rules.evidence import Evidence
from alignment.gate.rules.finding import Finding, between, points, result
from gateway.contracts.release import PREFERENCE_GATE, GateResult, Interval
from gateway.sections.gates import GateSettings

PREFERENCE_BASE_GATE = "holdout_preference_base"
MATCHED_GATE = "holdout_length_matched"


def preference_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Against the incumbent."""
    accuracy, difference, pairs = evidence.accuracy, evidence.accuracy_difference, evidence.holdout_pairs
    if accuracy is None or difference is None:
        nothing = Finding("warn", 0.0, limits.holdout_pairs_warn, "no pair was held out to measure on")
        return [result(PREFERENCE_GATE, [nothing], n=0)]
    findings = _worse(difference, "the incumbent")
    if accuracy.value < limits.accuracy_block:
        reason = f"prefers the rejected side too often: accuracy {accuracy.value:.3f}, least {limits.accuracy_block:g}"
        findings.append(Finding("block", accuracy.value, limits.accuracy_block, reason))
    findings += _dropped(difference, limits.accuracy_drop_block)
    findings += _preference_warnings(evidence, difference, limits)
    good = f"{points(difference.value)} against the incumbent, {between(difference)}"
    return [result(PREFERENCE_GATE, findings or [Finding("pass", difference.value, 0.0, good)], difference, pairs)]


def preference_base_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Against the base, where something else serves: many small losses that were let pass would add up."""
    difference = evidence.accuracy_difference_base
    if difference is None:
        return []
    findings = _worse(difference, "the base") + _dropped(difference, limits.accuracy_drop_block)
    if difference.low < limits.accuracy_low_warn:
        findings.append(_may_be_worse(difference, limits, "the base"))
    good = f"{points(difference.value)} against the base, {between(difference)}"
    findings = findings or [Finding("pass", difference.value, limits.accuracy_low_warn, good)]
    return [result(PREFERENCE_BASE_GATE, findings, difference, evidence.holdout_pairs)]


def matched_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Where both sides are of one length, so that a gain cannot be a gain for length."""
    matched, overall, pairs = evidence.matched_difference, evidence.accuracy_difference, evidence.matched_pairs
    if matched is None or overall is None or pairs < limits.matched_pairs_least:
        return []
    told = f"{points(matched.value)} on {pairs} pairs of one length, {points(overall.value)} on all"
    if matched.value < 0 < overall.value:
        finding = Finding("block", matched.value, 0.0, f"the gain is one for length alone: {told}")
    elif matched.value < -limits.matched_drop_warn:
        finding = Finding("warn", matched.value, -limits.matched_drop_warn, told)
    else:
        finding = Finding("pass", matched.value, -limits.matched_drop_warn, told)
    return [result(MATCHED_GATE, [finding], matched, pairs)]


def _worse(difference: Interval, than: str) -> list[Finding]:
    if not difference.high < 0:
        return []
    reason = f"surely worse than {than}: {points(difference.value)}, {between(difference)}"
    return [Finding("block", difference.high, 0.0, reason)]


def _dropped(difference: Interval, most: float) -> list[Finding]:
    if not difference.value < -most:
        return []
    reason = f"accuracy fell by more than {100 * most:g} points: {points(difference.value)}"
    return [Finding("block", difference.value, -most, reason)]


def _may_be_worse(difference: Interval, limits: GateSettings, than: str) -> Finding:
    limit = limits.accuracy_low_warn
    reason = f"may be worse than {than} by more than {-100 * limit:g} points: {between(difference)}"
    return Finding("warn", difference.low, limit, reason)


def _preference_warnings(evidence: Evidence, difference: Interval, limits: GateSettings) -> list[Finding]:
    findings, margin = [], evidence.margin_difference
    if difference.low < limits.accuracy_low_warn:
        findings.append(_may_be_worse(difference, limits, "the incumbent"))
    if difference.value <= 0:
        reason = f"no gain over the incumbent: {points(difference.value)}"
        findings.append(Finding("warn", difference.value, 0.0, reason))
    if margin is not None and margin.high < 0:
        reason = f"the margin surely shrank: {margin.value:+.3f} nats a token"
        findings.append(Finding("warn", margin.high, 0.0, reason))
    if evidence.holdout_pairs < limits.holdout_pairs_warn:
        reason = f"measured on {evidence.holdout_pairs} pairs only, fewer than {limits.holdout_pairs_warn}"
        findings.append(Finding("warn", float(evidence.holdout_pairs), float(limits.holdout_pairs_warn), reason))
    return findings
