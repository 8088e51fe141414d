"""Gates 0 and 2: do greedy answers to the pinned prompts look sound, and how far are they from the base's?"""

from alignment.gate.rules.evidence import Answers, Evidence
from alignment.gate.rules.finding import Finding, points, result
from gateway.contracts.release import GateResult
from gateway.sections.gates import GateSettings

ARTEFACT_GATE = "artefact"
DRIFT_GATE = "drift"


def artefact_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Nothing empty, no circles, no lost ends, no strange lengths."""
    answers = evidence.answers
    if answers is None:
        return []
    findings = _empty(answers) + _repeats(answers, limits) + _ends(answers, limits)
    findings.sort(key=lambda finding: finding.verdict == "warn")
    findings += _length(answers, limits)
    good = Finding("pass", answers.repetition, _repeats_limit(answers, limits), f"{answers.prompts} answers look sound")
    return [result(ARTEFACT_GATE, findings or [good], n=answers.prompts)]


def drift_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """The distance to the base, on what the candidate itself writes."""
    drift = evidence.drift
    if drift is None:
        return []
    changed = ", ".join(f"{100 * share:.0f} % of {who}'s" for who, share in drift.changed.items())
    told = f"KL {drift.kl.value:.4f} nats a token on {drift.prompts} answers; read otherwise than {changed}"
    # Not `value > limit`: a distance that is not a number must block.
    if not drift.kl.value <= limits.kl_block:
        finding = Finding("block", drift.kl.value, limits.kl_block, f"very far from the base: {told}")
    elif drift.kl.value > limits.kl_warn:
        finding = Finding("warn", drift.kl.value, limits.kl_warn, f"far from the base: {told}")
    else:
        finding = Finding("pass", drift.kl.value, limits.kl_block, told)
    return [result(DRIFT_GATE, [finding], drift.kl, drift.prompts)]


def _empty(answers: Answers) -> list[Finding]:
    if not answers.empty:
        return []
    return [Finding("block", float(answers.empty), 0.0, f"{answers.empty} of {answers.prompts} answers are empty")]


def _repeats_limit(answers: Answers, limits: GateSettings) -> float:
    return max(limits.repeats_floor, limits.repeats_block * answers.repetition_base)


def _repeats(answers: Answers, limits: GateSettings) -> list[Finding]:
    limit = _repeats_limit(answers, limits)
    if answers.repetition <= limit:
        return []
    shares = f"{answers.repetition:.3f} of its 4-token runs are repeated, {answers.repetition_base:.3f} of the base's"
    reason = f"goes round in circles: {shares}"
    return [Finding("block", answers.repetition, limit, reason)]


def _ends(answers: Answers, limits: GateSettings) -> list[Finding]:
    drop = answers.ended_base - answers.ended
    reason = f"answers end by themselves less often: {points(-drop)} against the base"
    if drop > limits.ended_block:
        return [Finding("block", drop, limits.ended_block, reason)]
    return [Finding("warn", drop, limits.ended_warn, reason)] if drop > limits.ended_warn else []


def _length(answers: Answers, limits: GateSettings) -> list[Finding]:
    ratio = answers.length_tokens / max(answers.length_tokens_base, 1.0)
    reason = f"answers are {ratio:.2f} times as long as the base's"
    if ratio < limits.length_warn_low:
        return [Finding("warn", ratio, limits.length_warn_low, reason)]
    return [Finding("warn", ratio, limits.length_warn_high, reason)] if ratio > limits.length_warn_high else []
