"""What a data set's card says of the pairs: how many, from whom, with what bias, and what looks like steering. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from gateway.datasets import bias
from gateway.datasets.collect import Chosen, Collected
from gateway.datasets.power import detectable, half_width

Card = dict[str, Any]
SUPERSEDED = "superseded"
RATERS_TOLD = 20


def described(collected: Collected) -> Card:
    """The part of a card that is known before anything is written."""
    from gateway.datasets import alarms  # with numpy, which a gateway worker does without until a card is wanted

    parts = {side: collected.part(side) for side in ("train", "holdout")}
    texts = list(collected.newest)
    length = bias.length_report(texts)
    clusters = [(one.cluster, one.rater) for one in collected.chosen]
    return {
        "alias": collected.alias,
        "pairs": len(collected.chosen),
        "counts": counts(collected),
        "train": _part(parts["train"]),
        "holdout": _part(parts["holdout"]) | power(len(parts["holdout"])),
        "sources": _sources(collected.chosen),
        "bias": {
            "length": length,
            "style": bias.style_report(texts),
            "position": bias.position_report(collected.shown),
        },
        "alarms": {
            "phrases": alarms.phrases([(one.chosen, one.rejected) for one in texts + collected.guarded]),
            "bursts": alarms.bursts(collected.plan.pace),
            "one_rater_clusters": alarms.one_rater_clusters(clusters),
        },
        "warnings": [*collected.plan.warnings, *_length_warning(length)],
        "blocks_automatic_training": length["level"] == "block",
        "redacted": dict(collected.redacted),
    } | ({} if collected.thumbs is None else {"thumbs": collected.thumbs})


def counts(collected: Collected) -> Card:
    """What became of the votes' pairs: how many there were, how many each rule struck, how many are left."""
    excluded = {
        reason or state: count
        for (state, reason), count in collected.votes.items()
        if state != "eligible" and reason != SUPERSEDED
    }
    eligible = sum(count for (state, _), count in collected.votes.items() if state == "eligible")
    dropped = {rule: count for rule, count in sorted(collected.plan.dropped.items()) if count}
    return {
        "candidates": eligible + sum(excluded.values()),
        "excluded": dict(sorted(excluded.items())),
        "eligible_votes": eligible,
        "dropped": dropped,
        "pairs": len(collected.chosen),
    }


def power(pairs: int) -> Card:
    """What a holdout of so many pairs can show."""
    if not pairs:
        return {}
    return {"half_width_95": round(half_width(pairs), 4), "detectable_gain": round(detectable(pairs), 4)}


def _part(chosen: Sequence[Chosen]) -> Card:
    part: Card = {
        "pairs": len(chosen),
        "prompts": len({one.prompt_hash for one in chosen}),
        "clusters": len({one.cluster for one in chosen}),
        "raters": len({one.rater for one in chosen}),
        "rater_kinds": dict(Counter(one.rater_kind for one in chosen)),
        "bases": dict(Counter(one.basis for one in chosen)),
        "chosen_origins": dict(Counter(one.origins[0] for one in chosen)),
        "rejected_origins": dict(Counter(one.origins[1] for one in chosen)),
        "weight_sum": round(sum(one.weight for one in chosen), 4),
        "largest_raters": dict(Counter(one.rater for one in chosen).most_common(RATERS_TOLD)),
    }
    if chosen:
        part["median_characters"] = {
            side: median(one.lengths[place] for one in chosen) for place, side in enumerate(("chosen", "rejected"))
        }
        times = [one.judged_at for one in chosen]
        part["judged"] = [datetime.fromtimestamp(at, UTC).isoformat() for at in (min(times), max(times))]
    return part


def _sources(chosen: Sequence[Chosen]) -> list[Card]:
    imports = Counter((one.source, one.licence) for one in chosen if one.basis == "import")
    return [
        {"source": source, "licence": licence, "pairs": count} for (source, licence), count in imports.most_common()
    ]


def _length_warning(length: Card) -> list[str]:
    if length["level"] == "ok":
        return []
    what = "training by itself waits for a person" if length["level"] == "block" else "see `datasets.balance_length`"
    return [f"the longer side was chosen in {length['chosen_longer']:.0%} of the votes: {what}"]
