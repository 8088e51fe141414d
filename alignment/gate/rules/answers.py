"""Gates 0 and 2: do greedy answers to the pinned prompts look sound, and how far are they from the base's?"""

from alignment.gate.rules.evidence import Answers, Evidence
from alignment.gate.rules.finding import Check, Good, points, result
from gateway.contracts.release import GateResult
from gateway.sections.gates import GateSettings

ARTEFACT_GATE = "artefact"
DRIFT_GATE = "drift"


def artefact_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Nothing empty, no circles, no lost ends, no strange lengths."""
    answers = evidence.answers
    if answers is None:
        return []
    repeats = _repeats(answers, limits)
    checks = [_empty(answers), repeats, *_ends(answers, limits), *_length(answers, limits)]
    good = Good(answers.repetition, repeats.limit, f"{answers.prompts} answers look sound")
    return [result(ARTEFACT_GATE, checks, good, n=answers.prompts)]


def drift_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """The distance to the base, on what the candidate itself writes."""
    drift = evidence.drift
    if drift is None:
        return []
    kl = drift.kl
    changed = ", ".join(f"{100 * share:.0f} % of {who}'s" for who, share in drift.changed.items())
    told = f"KL {kl.value:.4f} nats a token on {drift.prompts} answers; read otherwise than {changed}"
    checks = [
        Check("kl", "block", kl.value, limits.kl_block, "above", f"very far from the base: {told}", kl),
        Check("kl", "warn", kl.value, limits.kl_warn, "above", f"far from the base: {told}", kl),
    ]
    return [result(DRIFT_GATE, checks, Good(kl.value, limits.kl_block, told), kl, drift.prompts)]


def _empty(answers: Answers) -> Check:
    reason = f"{answers.empty} of {answers.prompts} answers are empty"
    return Check("empty", "block", float(answers.empty), 0.0, "above", reason)


def _repeats(answers: Answers, limits: GateSettings) -> Check:
    limit = max(limits.repeats_floor, limits.repeats_block * answers.repetition_base)
    shares = f"{answers.repetition:.3f} of its 4-token runs are repeated, {answers.repetition_base:.3f} of the base's"
    return Check("repeats", "block", answers.repetition, limit, "above", f"goes round in circles: {shares}")


def _ends(answers: Answers, limits: GateSettings) -> list[Check]:
    drop = answers.ended_base - answers.ended
    reason = f"answers end by themselves less often: {points(-drop)} against the base"
    return [
        Check("ended_drop", "block", drop, limits.ended_block, "above", reason),
        Check("ended_drop", "warn", drop, limits.ended_warn, "above", reason),
    ]


def _length(answers: Answers, limits: GateSettings) -> list[Check]:
    ratio = answers.length_tokens / max(answers.length_tokens_base, 1.0)
    reason = f"answers are {ratio:.2f} times as long as the base's"
    return [
        Check("length_low", "warn", ratio, limits.length_warn_low, "below", reason),
        Check("length_high", "warn", ratio, limits.length_warn_high, "above", reason),
    ]
