"""Gate 1: does the candidate prefer what people chose, more than the incumbent and the base do?"""

from alignment.gate.rules.evidence import Evidence, Slice
from alignment.gate.rules.finding import Check, Good, between, points, result
from alignment.gate.slices import LEAST_SLICE_PAIRS
from gateway.contracts.release import PREFERENCE_GATE, GateResult, Interval
from gateway.sections.gates import GateSettings

PREFERENCE_BASE_GATE = "holdout_preference_base"
MATCHED_GATE = "holdout_length_matched"
SLICES_GATE = "holdout_slices"
BY_WHOM = ("source ", "rater ")
"""Kinds of slices that somebody stands behind."""
PAIRS_LIMIT, CHANCE_LIMIT = "pairs", "loss_by_chance"
"""Limits that are no measure of the model: how many pairs there are, and how often chance would do the same."""


def preference_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Against the incumbent."""
    accuracy, difference, pairs = evidence.accuracy, evidence.accuracy_difference, evidence.holdout_pairs
    if accuracy is None or difference is None:
        reason = "no pair was held out to measure on"
        nothing = Check(PAIRS_LIMIT, "warn", 0.0, limits.holdout_pairs_warn, "below", reason, at_limit=True)
        return [result(PREFERENCE_GATE, [nothing], Good(0.0, limits.holdout_pairs_warn, reason), n=0)]
    least = limits.accuracy_block
    too_often = f"prefers the rejected side too often: accuracy {accuracy.value:.3f}, least {least:g}"
    checks = [
        _worse(difference, "the incumbent"),
        Check("accuracy", "block", accuracy.value, least, "below", too_often, accuracy),
        _dropped(difference, limits.accuracy_drop_block),
        _may_be_worse(difference, limits, "the incumbent"),
        *_warnings(evidence, difference, limits),
    ]
    good = Good(difference.value, 0.0, f"{points(difference.value)} against the incumbent, {between(difference)}")
    return [result(PREFERENCE_GATE, checks, good, difference, pairs)]


def preference_base_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Against the base, where something else serves: many small losses that were let pass would add up."""
    difference = evidence.accuracy_difference_base
    if difference is None:
        return []
    checks = [
        _worse(difference, "the base"),
        _dropped(difference, limits.accuracy_drop_block),
        _may_be_worse(difference, limits, "the base"),
    ]
    told = f"{points(difference.value)} against the base, {between(difference)}"
    good = Good(difference.value, limits.accuracy_low_warn, told)
    return [result(PREFERENCE_BASE_GATE, checks, good, difference, evidence.holdout_pairs)]


def matched_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """Where both sides are of one length, so that a gain cannot be a gain for length."""
    matched, overall, pairs = evidence.matched_difference, evidence.accuracy_difference, evidence.matched_pairs
    if matched is None or overall is None or pairs < limits.matched_pairs_least:
        return []
    told, drop = (
        f"{points(matched.value)} on {pairs} pairs of one length, {points(overall.value)} on all",
        matched.value,
    )
    checks = [Check("drop", "warn", drop, -limits.matched_drop_warn, "below", told, matched)]
    if overall.value > 0:
        only = f"the gain is one for length alone: {told}"
        checks.insert(0, Check("drop", "block", drop, 0.0, "below", only, matched))
    return [result(MATCHED_GATE, checks, Good(drop, -limits.matched_drop_warn, told), matched, pairs)]


def slices_gate(evidence: Evidence, limits: GateSettings) -> list[GateResult]:
    """By source, rater and length, so that a gain for most is not a loss for some."""
    overall, slices = evidence.accuracy_difference, evidence.slices
    if overall is None or not slices:
        return []
    lowest = min(slices, key=lambda one: one.difference.value)
    surest = min(slices, key=lambda one: (one.chance, one.difference.value))
    count = f"the lowest of {len(slices)} is as low by chance in"
    told = f"lowest among {_slice(lowest)}; {count} {100 * lowest.chance:.0f} %"
    drop = lowest.difference
    checks = [Check("drop", "warn", drop.value, -limits.slice_drop_warn, "below", told, drop)]
    checks += _without_one(evidence, overall.value)
    if overall.value > 0 > surest.difference.value:
        flips = f"a gain on all pairs ({points(overall.value)}), but a loss among {_slice(surest)}"
        reason = f"{flips}; {count} {100 * surest.chance:.1f} %"
        checks.append(Check(CHANCE_LIMIT, "block", surest.chance, limits.slice_chance_block, "below", reason))
    return [result(SLICES_GATE, checks, Good(drop.value, -limits.slice_drop_warn, told), drop, lowest.pairs)]


def _without_one(evidence: Evidence, gain: float) -> list[Check]:
    """Is a gain left without any one source, or kind of rater? Asked where enough other pairs are left."""
    left = {
        one.name: (gain * evidence.holdout_pairs - one.difference.value * one.pairs, evidence.holdout_pairs - one.pairs)
        for one in evidence.slices
        if one.name.startswith(BY_WHOM) and evidence.holdout_pairs - one.pairs >= LEAST_SLICE_PAIRS
    }
    if gain <= 0 or not left:
        return []
    name = min(left, key=lambda one: left[one][0] / left[one][1])
    rest, pairs = left[name][0] / left[name][1], left[name][1]
    told = f"no gain without {name}: {points(rest)} on the other {pairs} pairs"
    return [Check("without_one", "warn", rest, 0.0, "below", told, at_limit=True)]


def _slice(one: Slice) -> str:
    return f"{one.name}: {points(one.difference.value)} on {one.pairs} pairs"


def _worse(difference: Interval, than: str) -> Check:
    reason = f"surely worse than {than}: {points(difference.value)}, {between(difference)}"
    return Check("surely_worse", "block", difference.high, 0.0, "below", reason, difference)


def _dropped(difference: Interval, most: float) -> Check:
    reason = f"accuracy fell by more than {100 * most:g} points: {points(difference.value)}"
    return Check("drop", "block", difference.value, -most, "below", reason, difference)


def _may_be_worse(difference: Interval, limits: GateSettings, than: str) -> Check:
    limit = limits.accuracy_low_warn
    reason = f"may be worse than {than} by more than {-100 * limit:g} points: {between(difference)}"
    return Check("lower_bound", "warn", difference.low, limit, "below", reason, difference)


def _warnings(evidence: Evidence, difference: Interval, limits: GateSettings) -> list[Check]:
    no_gain = f"no gain over the incumbent: {points(difference.value)}"
    checks = [Check("gain", "warn", difference.value, 0.0, "below", no_gain, difference, at_limit=True)]
    if (margin := evidence.margin_difference) is not None:
        shrank = f"the margin surely shrank: {margin.value:+.3f} nats a token"
        checks.append(Check("margin", "warn", margin.high, 0.0, "below", shrank, margin))
    least = limits.holdout_pairs_warn
    few = f"measured on {evidence.holdout_pairs} pairs only, fewer than {least}"
    return [*checks, Check(PAIRS_LIMIT, "warn", float(evidence.holdout_pairs), float(least), "below", few)]
