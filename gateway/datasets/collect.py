"""Goes through what a data set of an alias would hold now: settles, applies every rule, and hands out pair after pair.

Texts are read a thousand pairs at a time and let go again: a data set of a million votes fits into little memory.
"""

import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.contracts.pair import FeedbackPair
from gateway.datasets.aggregate import Agreed
from gateway.datasets.bias import Texts, length_weights
from gateway.datasets.contamination import Benchmarks, read_items
from gateway.datasets.plan import Circumstances, Lying, Plan, Planner
from gateway.datasets.settle import settle
from gateway.datasets.votes import PairVote
from gateway.errors import InvalidRequest
from gateway.redaction.configured import RedactPair as Redact
from gateway.redaction.pair import flaw_after_redaction
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.datasets import ROWS_AT_A_TIME, bodies_of, count_pairs, narrow_pairs, shown_first
from gateway.storage.gold import gold_scores
from gateway.storage.lineage import further_votes
from gateway.storage.pairs import sides_of
from gateway.storage.releases import releases_behind
from gateway.storage.tables import Alias

CONTAMINATED = "contamination"
TEXTS_KEPT = 20_000
"""Figures over texts are taken from the newest so many pairs."""
_fields_of = msgspec.json.Decoder(dict[str, object]).decode


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pair of the data set without its texts."""

    id: str
    side: str
    cluster: str
    raters: int
    weight: float
    prompt_hash: str
    rater: str
    rater_kind: str
    basis: str
    source: str | None
    licence: str | None
    origins: tuple[str, str]
    lengths: tuple[int, int]
    """Of the chosen and the rejected text, in characters."""
    judged_at: float


Sink = Callable[[FeedbackPair, Chosen], None]


@dataclass
class Collected:
    """What a data set would hold, and why it holds no more."""

    alias: str
    at: float
    votes: dict[tuple[str, str | None], int]
    """Pairs of votes by state and reason."""
    plan: Plan
    shown: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By rater: choices that stood first, and votes whose order is known."""
    chosen: list[Chosen] = field(default_factory=list)
    """In the order in which they were judged."""
    newest: deque[Texts] = field(default_factory=lambda: deque(maxlen=TEXTS_KEPT))
    guarded: list[Texts] = field(default_factory=list)
    """Of the pairs that were struck because of whom they are from."""
    redacted: Counter[str] = field(default_factory=Counter)

    def part(self, side: str) -> list[Chosen]:
        """The pairs of one side."""
        return [one for one in self.chosen if one.side == side]


def ignore(pair: FeedbackPair, chosen: Chosen) -> None:
    """The sink of a dry run."""


async def collect(
    database: Database,
    alias: str,
    settings: DatasetSettings,
    *,
    redact: Redact | None = None,
    sink: Sink = ignore,
    now: float | None = None,
) -> Collected:
    """Settle what is not settled, apply every rule, and hand each pair that is left to `sink`, oldest first.

    Raises `InvalidRequest` for a file of benchmark items that cannot be read.
    """
    benchmarks = benchmarks_of(settings)
    await settle(database, alias, settings)
    collected, lying = await _planned(database, alias, settings, time.time() if now is None else now)
    plan = collected.plan
    factors = await _length_factors(database, plan) if settings.balance_length else {}
    further = await _further_votes(database, plan)
    async for agreed, text in _texts(database, plan.pairs):
        weight = plan.weights[agreed.vote.id] * factors.get(agreed.vote.id, 1.0)
        pair = FeedbackPair.model_validate(_fields_of(text) | {"weight": weight})
        more = (vote for merged in agreed.merged for vote in further.get(merged, ()))
        votes = tuple(dict.fromkeys((*pair.feedback_ids, *agreed.feedback_ids, *more)))
        pair = pair.model_copy(update={"feedback_ids": votes})
        kept = as_trained(pair, benchmarks, redact, collected)
        if kept is not None:
            chosen = chosen_of(kept, lying[kept.prompt_hash], agreed.raters)
            collected.chosen.append(chosen)
            collected.newest.append(texts_of(kept))
            sink(kept, chosen)
    struck = [Agreed(vote, 1, (vote.feedback_id,), {}) for vote in plan.guarded[-TEXTS_KEPT:]]
    async for _, text in _texts(database, struck):
        collected.guarded.append(texts_of(FeedbackPair.model_validate_json(text)))
    return collected


def texts_of(pair: FeedbackPair) -> Texts:
    """The two sides as the reports on bias look at them."""
    return Texts(pair.chosen.message.text, pair.rejected.message.text, pair.basis == "correction")


async def _planned(
    database: Database, alias: str, settings: DatasetSettings, now: float
) -> tuple[Collected, dict[str, Lying]]:
    async with database.read() as session:
        project = (await session.get_one(Alias, alias)).project_id
        counted = await count_pairs(session, alias)
        lying = {row.prompt_hash: Lying(row.side, row.cluster, row.bridges) for row in await sides_of(session, alias)}
        gold = {rater: score.share for rater, score in (await gold_scores(session, project)).items()}
        behind = await releases_behind(session, alias)
        shown = await shown_first(session, alias)
        planner = Planner(Circumstances(settings, lying, gold, behind, now))
        everything: list[PairVote] = []
        async for rows in narrow_pairs(session, alias):
            votes = [PairVote(*row) for row in rows]
            if settings.profile == "public":  # whom a vote is from is judged over all of them
                everything += votes
            else:
                planner.take(votes)
        if everything:
            planner.take(planner.guard(everything))
    plan = planner.finish()
    plan.pairs.sort(key=lambda pair: (pair.vote.judged_at, pair.vote.id))
    return Collected(alias, now, counted, plan, shown), lying


async def _texts(database: Database, pairs: Sequence[Agreed]) -> AsyncIterator[tuple[Agreed, str]]:
    """Every pair with its text, in their order. One that was erased meanwhile is left out."""
    for begin in range(0, len(pairs), ROWS_AT_A_TIME):
        piece = pairs[begin : begin + ROWS_AT_A_TIME]
        async with database.read() as session:
            found = await bodies_of(session, [pair.vote.id for pair in piece])
        for pair in piece:
            if pair.vote.id in found:
                yield pair, found[pair.vote.id]


async def _further_votes(database: Database, plan: Plan) -> dict[str, list[str]]:
    """The votes that merged pairs follow from besides those they belong to: who is erased is looked for by them."""
    merged = [pair_id for agreed in plan.pairs for pair_id in agreed.merged]
    async with database.read() as session:
        return await further_votes(session, merged)


async def _length_factors(database: Database, plan: Plan) -> dict[str, float]:
    texts = {}
    async for agreed, text in _texts(database, plan.pairs):
        texts[agreed.vote.id] = texts_of(FeedbackPair.model_validate_json(text))
    return length_weights(texts)


def as_trained(
    pair: FeedbackPair,
    benchmarks: Benchmarks,
    redact: Redact | None,
    collected: Collected,
    *,
    sides_differ: bool = True,
) -> FeedbackPair | None:
    """The pair as it is trained on; None where its text rules it out, which is counted.

    `sides_differ`: a pair whose sides are the same once redacted is left out.
    """
    said = [message.text for message in pair.prompt] + [pair.chosen.message.text]
    if benchmarks and any(benchmarks.holds(text) for text in said):
        collected.plan.dropped[CONTAMINATED] += 1
        return None
    if redact is None:
        return pair
    redacted, counts = redact(pair)
    collected.redacted.update(counts)
    if counts and sides_differ and (flaw := flaw_after_redaction(redacted)):
        collected.plan.dropped[flaw] += 1
        return None
    return redacted


def chosen_of(pair: FeedbackPair, lies: Lying, raters: int) -> Chosen:
    """What is kept of a pair when its texts are let go."""
    return Chosen(
        id=pair.id,
        side=lies.side,
        cluster=lies.cluster,
        raters=raters,
        weight=pair.weight,
        prompt_hash=pair.prompt_hash,
        rater=pair.rater.id_hash,
        rater_kind=pair.rater.kind,
        basis=pair.basis,
        source=pair.source,
        licence=pair.licence,
        origins=(pair.chosen.origin, pair.rejected.origin),
        lengths=(len(pair.chosen.message.text), len(pair.rejected.message.text)),
        judged_at=pair.judged_at.timestamp(),
    )


def benchmarks_of(settings: DatasetSettings) -> Benchmarks:
    """The items that nothing may be trained on. Raises `InvalidRequest` for a file of them that cannot be read."""
    try:
        return Benchmarks(read_items(settings.benchmarks))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"A benchmark of `datasets.benchmarks` cannot be read ({error}); mend the path, or leave it out."
        ) from error
