"""Which pairs a data set would hold now, and what became of the others. Pure: it decides on narrow rows, before any
text is read.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from gateway.datasets import caps
from gateway.datasets.aggregate import NOTHING, Agreed, agree
from gateway.datasets.votes import PairVote, compact
from gateway.datasets.weights import EXEMPT, off_policy, recency
from gateway.settings import DatasetSettings

DAY_SECONDS = 86400.0
HALF_HOUR_SECONDS = 1800.0
BRIDGES, CLUSTER, CAP, DAILY, PROBATION, JUDGE_HELD_OUT = (
    "bridges_split", "cluster_limit", "rater_cap", "daily_limit", "quarantine", "judge_in_holdout",
)  # fmt: skip


class Lying(NamedTuple):
    """Where a prompt lies."""

    side: str
    cluster: str
    bridges: bool


@dataclass(frozen=True)
class Circumstances:
    """What the rules go by beside the votes."""

    settings: DatasetSettings
    lying: Mapping[str, Lying]
    """By prompt; what is not there is not settled yet, and left for the next data set."""
    gold: Mapping[str, float]
    """By rater, the share of gold items judged right."""
    releases: Mapping[str, int]
    """By release, how many releases of the alias came after it up to the serving one."""
    now: float
    """Unix seconds."""


@dataclass
class Plan:
    """What a data set would hold."""

    pairs: list[Agreed] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """Votes that became no pair of their own, by rule."""
    warnings: list[str] = field(default_factory=list)
    guarded: list[PairVote] = field(default_factory=list)
    """Votes struck because of whom they are from: no part of the data set, but its alarms look at them."""
    pace: "dict[str, array[int]]" = field(default_factory=dict)
    """By rater, the half hours of all votes but imports, whatever became of them."""

    def note_pace(self, votes: Iterable[PairVote]) -> None:
        """Note when votes were given."""
        for vote in votes:
            if vote.basis != "import":
                if (own := self.pace.get(vote.rater)) is None:
                    own = self.pace[vote.rater] = array("i")
                own.append(int(vote.judged_at // HALF_HOUR_SECONDS))


class Planner:
    """Takes votes in, those of one prompt together, and lets go of them as soon as their prompt is complete."""

    def __init__(self, known: Circumstances) -> None:
        self._known = known
        self._plan = Plan()
        self._agreed: list[Agreed] = []
        self._open: list[PairVote] = []
        """Of the last prompt: more may come."""

    def guard(self, votes: Sequence[PairVote]) -> list[PairVote]:
        """In the profile `public`, before anything else: those of all votes that are left of raters and sources.

        Before they are aggregated, or one stranger's votes could outvote, or take with them, what others said.
        """
        left, plan = list(votes), self._plan
        for rule, find in (
            (PROBATION, partial(caps.in_quarantine, gold=self._known.gold)),
            (DAILY, caps.over_days),
            (CAP, self._over_shares),
        ):
            over = find(left)
            plan.dropped.update({rule: len(over)} if over else {})
            plan.guarded += [vote for vote in left if vote.id in over]
            left = [vote for vote in left if vote.id not in over]
        plan.note_pace(plan.guarded)
        return left

    def _over_shares(self, votes: Sequence[PairVote]) -> set[str]:
        over = caps.over_shares(votes)
        for who, ids in over.items():
            told = f"{who} is beyond the cap of a single rater or source by {len(ids)} votes, which were left out"
            self._plan.warnings.append(told)
        return {one for ids in over.values() for one in ids}

    def take(self, votes: Sequence[PairVote]) -> None:
        """Some more votes."""
        self._plan.note_pace(votes)
        waiting = [*self._open, *votes]
        cut = len(waiting)
        while cut and waiting[cut - 1].prompt_hash == waiting[-1].prompt_hash:
            cut -= 1
        self._agreed += _agreed(waiting[:cut], self._known, self._plan.dropped)
        self._open = waiting[cut:]

    def finish(self) -> Plan:
        """Apply every rule to what was taken in."""
        self._agreed += _agreed(self._open, self._known, self._plan.dropped)
        return _ruled(self._agreed, self._known, self._plan)


def _ruled(agreed: list[Agreed], known: Circumstances, plan: Plan) -> Plan:
    agreed = _without(agreed, _not_for_holdout(agreed, known), JUDGE_HELD_OUT, plan.dropped)
    _told_of_shares(agreed, known, plan)
    clusters = {prompt: one.cluster for prompt, one in known.lying.items()}
    over = caps.over_clusters([pair.vote for pair in agreed], clusters, known.settings.pairs_per_cluster)
    plan.pairs = _without(agreed, over, CLUSTER, plan.dropped)
    return plan


def weight_of(vote: PairVote, known: Circumstances) -> float:
    """Trust, times what age and newer releases leave of it."""
    if vote.basis in EXEMPT:
        return vote.weight
    settings = known.settings
    age = recency(
        (known.now - vote.judged_at) / DAY_SECONDS,
        half_life_days=settings.recency_half_life_days,
        floor=settings.recency_floor,
    )
    behind = max((known.releases.get(one, 0) for one in (vote.chosen_release, vote.rejected_release) if one), default=0)
    return vote.weight * age * off_policy(behind, factor=settings.off_policy_factor, floor=settings.off_policy_floor)


def _agreed(votes: Iterable[PairVote], known: Circumstances, dropped: Counter[str]) -> Iterator[Agreed]:
    for prompt, of_prompt in groupby(votes, attrgetter("prompt_hash")):
        lies = known.lying.get(prompt)
        if lies is None:
            continue
        if lies.bridges:
            dropped[BRIDGES] += sum(1 for _ in of_prompt)
            continue
        items: dict[tuple[int, int], list[PairVote]] = {}
        for vote in of_prompt:
            items.setdefault(vote.item, []).append(vote)
        for own in items.values():
            found = agree(own, known.gold)
            for reason, count in (found.struck if isinstance(found, Agreed) else found).items():
                dropped[reason] += count
            if isinstance(found, Agreed):
                yield Agreed(compact(found.vote), found.raters, found.feedback_ids, NOTHING, found.merged)


def _not_for_holdout(pairs: Sequence[Agreed], known: Circumstances) -> set[str]:
    """A model's verdicts measure nothing."""
    return {
        pair.vote.id
        for pair in pairs
        if pair.vote.basis == "judge" and known.lying[pair.vote.prompt_hash].side == "holdout"
    }


def _told_of_shares(pairs: Sequence[Agreed], known: Circumstances, plan: Plan) -> None:
    """In the profile `team` nobody is capped; who would be is told."""
    if known.settings.profile == "team":
        for who, ids in caps.over_shares([pair.vote for pair in pairs]).items():
            over = f"{who} is beyond the cap of a single rater or source by {len(ids)} pairs"
            plan.warnings.append(f"{over}; the profile `team` trusts it")


def _without(pairs: Sequence[Agreed], over: set[str], rule: str, dropped: Counter[str]) -> list[Agreed]:
    if over:
        dropped[rule] += len(over)
    return [pair for pair in pairs if pair.vote.id not in over]
