"""How much of a data set one rater, one source or one kind of prompt may be. Pure.

Caps and quarantine bind raters that nobody vouched for, in the profile `public`; in `team` they are told of and not
applied. What is struck out is always the newest: who comes late cannot push out what was there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gateway.datasets.votes import PairVote

PAIRS_PER_CLUSTER = 3
FLOOR = 20
SHARES = {"end_user": 0.05, "annotator": 0.4, "import": 0.5, "code": 0.4, "judge": 0.4}
"""The largest share of a data set from one rater of the kind, or from one source of imports."""
VOTES_PER_DAY = 20
"""Of one end user."""
PROBATION_VOTES = 10
"""The first so many votes of a rater are held."""
GOLD_NEEDED = 0.7
DAY_SECONDS = 86400.0


def over_clusters(pairs: Sequence[PairVote], cluster_of: Mapping[str, str], most: int = PAIRS_PER_CLUSTER) -> set[str]:
    """Ids of pairs beyond the first `most` of their cluster; weightier ones come first."""
    found: Counter[str] = Counter()
    over = set()
    for pair in sorted(pairs, key=lambda one: (-one.weight, one.judged_at, one.id)):
        cluster = cluster_of[pair.prompt_hash]
        found[cluster] += 1
        if found[cluster] > most:
            over.add(pair.id)
    return over


def over_shares(pairs: Sequence[PairVote], floor: int = FLOOR) -> dict[str, set[str]]:
    """Ids of pairs beyond the cap of whoever they are from, by the name of the rater or source.

    The cap is `max(floor, s / (1 - s) * pairs of all others)`: a share s of what is left.
    """
    by_whom: dict[tuple[str, str], list[PairVote]] = {}
    for pair in pairs:
        for name in _names(pair):
            by_whom.setdefault(name, []).append(pair)
    over: dict[str, set[str]] = {}
    for (kind, who), own in sorted(by_whom.items()):
        share = SHARES[kind]
        cap = max(floor, int(share / (1 - share) * (len(pairs) - len(own))))
        if len(own) > cap:
            ordered = sorted(own, key=lambda one: (one.judged_at, one.id))
            over[who] = {pair.id for pair in ordered[cap:]}
    return over


def in_quarantine(pairs: Iterable[PairVote], gold: Mapping[str, float]) -> set[str]:
    """Ids of the first `PROBATION_VOTES` pairs of each rater, and of all pairs of raters that fail on gold items."""
    seen: Counter[str] = Counter()
    held = set()
    for vote in sorted(pairs, key=lambda one: (one.judged_at, one.id)):
        if vote.trusted or vote.basis == "import":
            continue
        seen[vote.rater] += 1
        if seen[vote.rater] <= PROBATION_VOTES or gold.get(vote.rater, 1.0) < GOLD_NEEDED:
            held.add(vote.id)
    return held


def over_days(pairs: Iterable[PairVote], most: int = VOTES_PER_DAY) -> set[str]:
    """Ids of pairs beyond so many a day of one end user (UTC)."""
    seen: Counter[tuple[str, int]] = Counter()
    over = set()
    for vote in sorted(pairs, key=lambda one: (one.judged_at, one.id)):
        if vote.trusted or vote.rater_kind != "end_user" or vote.basis == "import":
            continue
        day = (vote.rater, int(vote.judged_at // DAY_SECONDS))
        seen[day] += 1
        if seen[day] > most:
            over.add(vote.id)
    return over


def _names(vote: PairVote) -> Iterable[tuple[str, str]]:
    if vote.basis == "import":
        yield "import", vote.source or "unnamed"
    elif not vote.trusted:
        yield vote.rater_kind, vote.rater
