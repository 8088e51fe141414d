"""Gate 5: a model that judges answers. It counts only where it agrees with the people who chose the held-out pairs."""

import math

from alignment.gate.rules.evidence import Evidence, Judged
from alignment.gate.rules.finding import Check, Good, result
from gateway.contracts.release import GateResult, Interval
from gateway.sections.gates import GateSettings

JUDGE_GATE = "judge"
LEAST_HUMAN_VERDICTS = 30
"""With fewer pairs of people to compare with, it is not known whether the judge agrees with them."""
LEAST_PROMPTS = 100
_Z_95 = 1.95996


def judge_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """The share of consistent verdicts that the candidate won, ties left out."""
    judged = evidence.judged
    if judged is None:
        return []
    decided, compared = judged.won + judged.lost, judged.agreed + judged.disagreed
    if judged.failure:
        failed = Check("answered", "warn", 0.0, 1.0, "below", f"the judge could not be asked: {judged.failure}")
        return [result(JUDGE_GATE, [failed], Good(0.0, 1.0, ""), n=0)]
    if why := _does_not_count(judged, limits):
        return [result(JUDGE_GATE, [], Good(_share(judged.agreed, compared), limits.judge_agreement, why), n=decided)]
    won = win_rate(judged.won, decided)
    told = f"won {judged.won}, lost {judged.lost}, tied {judged.tied} of {judged.prompts} prompts"
    rate = f"{told}; 95 % between {won.low:.2f} and {won.high:.2f}"
    few = f"only {judged.prompts} prompts were judged, fewer than {LEAST_PROMPTS}"
    checks = [
        Check("win_rate", "block", won.high, limits.judge_block, "below", f"surely worse to the judge: {rate}", won),
        Check("win_rate", "warn", won.low, limits.judge_warn, "below", f"may be worse to the judge: {rate}", won),
        Check("pairs", "warn", float(judged.prompts), float(LEAST_PROMPTS), "below", few),
    ]
    return [result(JUDGE_GATE, checks, Good(won.value, limits.judge_block, rate), won, decided)]


def win_rate(won: int, decided: int) -> Interval:
    """The share won, with Wilson's 95 % interval (1927)."""
    if not decided:
        return Interval(value=0.5, low=0.0, high=1.0)
    share, z2 = won / decided, _Z_95**2
    centre = (share + z2 / (2 * decided)) / (1 + z2 / decided)
    half = _Z_95 * math.sqrt(share * (1 - share) / decided + z2 / (4 * decided**2)) / (1 + z2 / decided)
    return Interval(value=share, low=centre - half, high=centre + half)


def _does_not_count(judged: Judged, limits: GateSettings) -> str:
    """Why the verdicts are told but not held against the candidate; empty if they are."""
    compared = judged.agreed + judged.disagreed
    if compared < LEAST_HUMAN_VERDICTS:
        unreadable = f"; in {judged.unreadable} comparisons a reply was no verdict" if judged.unreadable else ""
        return (
            f"does not count: {compared} consistent verdicts on {judged.pairs} held-out pairs of people, and it takes "
            f"{LEAST_HUMAN_VERDICTS} to know whether it agrees with them{unreadable}"
        )
    share = _share(judged.agreed, compared)
    if share < limits.judge_agreement:
        return (
            f"does not count: it agrees with people on {100 * share:.0f} % of {compared} held-out pairs, and "
            f"{100 * limits.judge_agreement:.0f} % are wanted"
        )
    return ""


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
