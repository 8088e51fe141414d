"""Goes through what a data set of an alias would hold now: settles, applies every rule, and hands out pair after pair.

Texts are read a thousand pairs at a time and let go again: a data set of a million votes fits into little memory.
"""

import asyncio
import gc
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import Any, NamedTuple

from gateway.contracts.pair import FeedbackPair
from gateway.datasets.aggregate import Agreed
from gateway.datasets.ahead import beside, one_ahead
from gateway.datasets.bias import Texts, length_weights
from gateway.datasets.bodies import Body, body_of, read_body, said, split_bodies, texts_of
from gateway.datasets.contamination import Benchmarks, read_items
from gateway.datasets.plan import Circumstances, Lying, Plan, Planner, weight_of
from gateway.datasets.settle import settle
from gateway.datasets.votes import PairVote, compact
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
GC_THRESHOLDS = 50_000, 20, 20
"""At least: a million votes are in no circles, and looking for some took a seventh of the time."""
SWITCH_SECONDS = 0.001
"""At most, so soon is Python's lock handed over: while a piece is handed out, the next is read in a few steps, and each
has to wait for the lock."""
TEXTS_KEPT = 20_000
"""Figures over texts are taken from the newest so many pairs."""


class Chosen(NamedTuple):
    """A pair of the data set without its texts."""

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


Sink = Callable[[Body, Chosen], None]


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
    thumbs: dict[str, Any] | None = None
    """What became of the ratings that are part of no pair (`gateway/datasets/thumbs.py`)."""

    def part(self, side: str) -> list[Chosen]:
        """The pairs of one side."""
        return [one for one in self.chosen if one.side == side]


def ignore(body: Body, chosen: Chosen) -> None:
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
    gc.set_threshold(*map(max, gc.get_threshold(), GC_THRESHOLDS))
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
    await settle(database, alias, settings)
    collected, known = await _planned(database, alias, settings, time.time() if now is None else now)
    plan = collected.plan
    factors = await _length_factors(database, plan) if settings.balance_length else {}
    handing = _Handing(collected, known, factors, benchmarks, redact, sink)
    waiting = deque(plan.pairs)
    plan.pairs.clear()  # what was handed out is let go
    async with aclosing(one_ahead(_read(database, waiting))) as pieces:
        async for piece in pieces:
            await asyncio.to_thread(handing.out, *piece)
    async with database.read() as session:
        struck = await bodies_of(session, [vote.id for vote in plan.guarded[-TEXTS_KEPT:]])
    collected.guarded += [texts_of(body) for text in struck for body in map(read_body, split_bodies(text).values())]
    return collected


Piece = tuple[list[Agreed], list[bytes], dict[str, list[str]]]
"""Some pairs, their texts as JSON, and the further votes behind those merged into them."""


async def _read(database: Database, waiting: deque[Agreed]) -> AsyncGenerator[Piece, None]:
    """All of them, a piece after the other."""
    while piece := [waiting.popleft() for _ in range(min(ROWS_AT_A_TIME, len(waiting)))]:
        async with database.read() as session:
            found = await bodies_of(session, [pair.vote.id for pair in piece])
            further = await further_votes(session, [merged for agreed in piece for merged in agreed.merged])
        yield piece, found, further


async def count_usable(
    database: Database, alias: str, settings: DatasetSettings, redact: Redact | None = None
) -> Counter[str]:
    """How many pairs a data set frozen now would hold, by side; texts are read only where a rule looks at them."""
    if settings.benchmarks or redact is not None:
        return Counter(one.side for one in (await collect(database, alias, settings, redact=redact)).chosen)
    await settle(database, alias, settings)
    collected, known = await _planned(database, alias, settings, time.time())
    return Counter(known.lying[pair.vote.prompt_hash].side for pair in collected.plan.pairs)


@dataclass(frozen=True)
class _Handing:
    """Hands out what is planned, pair after pair."""

    collected: Collected
    known: Circumstances
    factors: Mapping[str, float]
    benchmarks: Benchmarks
    redact: Redact | None
    sink: Sink

    def out(self, piece: Sequence[Agreed], texts: Sequence[bytes], further: Mapping[str, Sequence[str]]) -> None:
        """A `Piece`. A pair that was erased meanwhile is left out."""
        found = {name: body for text in texts for name, body in split_bodies(text).items()}
        for agreed in piece:
            if agreed.vote.id not in found:
                continue
            body = read_body(found[agreed.vote.id])
            more = (vote for merged in agreed.merged for vote in further.get(merged, ()))
            body["feedback_ids"] = list(dict.fromkeys((*body["feedback_ids"], *agreed.feedback_ids, *more)))
            body["weight"] = weight_of(agreed.vote, self.known) * self.factors.get(agreed.vote.id, 1.0)
            kept = as_trained(body, self.benchmarks, self.redact, self.collected)
            if kept is not None:
                sides = texts_of(kept)
                chosen = chosen_of(kept, sides, self.known.lying[agreed.vote.prompt_hash], agreed.raters)
                self.collected.chosen.append(chosen)
                self.collected.newest.append(sides)
                self.sink(kept, chosen)


async def _planned(
    database: Database, alias: str, settings: DatasetSettings, now: float
) -> tuple[Collected, Circumstances]:
    async with beside(_shown(database, alias)) as shown, database.read() as session:
        project = (await session.get_one(Alias, alias)).project_id
        counted = await count_pairs(session, alias)
        lying = {
            intern(prompt_hash): Lying(intern(side), intern(cluster), bridges)
            async for rows in sides_of(session, alias)
            for prompt_hash, side, cluster, bridges in rows
        }
        gold = {rater: score.share for rater, score in (await gold_scores(session, project)).items()}
        behind = await releases_behind(session, alias)
        known = Circumstances(settings, lying, gold, behind, now)
        planner = Planner(known)
        everything: list[PairVote] = []
        async for rows in narrow_pairs(session, alias):
            votes = list(map(PairVote._make, rows))
            if settings.profile == "public":  # whom a vote is from is judged over all of them
                everything += map(compact, votes)
            else:
                await asyncio.to_thread(planner.take, votes)
        if everything:
            planner.take(planner.guard(everything))
        left_first = await shown
    plan = await asyncio.to_thread(planner.finish)
    plan.pairs.sort(key=lambda pair: (pair.vote.judged_at, pair.vote.id))
    return Collected(alias, now, counted, plan, left_first), known


async def _shown(database: Database, alias: str) -> dict[str, tuple[int, int]]:
    """Read beside the votes: the database goes through all of them for it."""
    async with database.read() as session:
        return await shown_first(session, alias)


async def _length_factors(database: Database, plan: Plan) -> dict[str, float]:
    texts: dict[str, Texts] = {}
    for begin in range(0, len(plan.pairs), ROWS_AT_A_TIME):
        ids = [pair.vote.id for pair in plan.pairs[begin : begin + ROWS_AT_A_TIME]]
        async with database.read() as session:
            found = await bodies_of(session, ids)
        texts |= {one: texts_of(read_body(body)) for text in found for one, body in split_bodies(text).items()}
    return length_weights(texts)


def as_trained(
    body: Body,
    benchmarks: Benchmarks,
    redact: Redact | None,
    collected: Collected,
    *,
    sides_differ: bool = True,
) -> Body | None:
    """The pair as it is trained on; None where its text rules it out, which is counted.

    `sides_differ`: a pair whose sides are the same once redacted is left out.
    """
    if benchmarks and any(benchmarks.holds(said(one)) for one in (*body["prompt"], body["chosen"]["message"])):
        collected.plan.dropped[CONTAMINATED] += 1
        return None
    if redact is None:
        return body
    redacted, counts = redact(FeedbackPair.model_validate(body))
    collected.redacted.update(counts)
    if counts and sides_differ and (flaw := flaw_after_redaction(redacted)):
        collected.plan.dropped[flaw] += 1
        return None
    return body_of(redacted)


def chosen_of(body: Body, texts: Texts, lies: Lying, raters: int) -> Chosen:
    """What is kept of a pair when its texts are let go."""
    return Chosen(
        side=lies.side,
        cluster=lies.cluster,
        raters=raters,
        weight=body["weight"],
        prompt_hash=intern(body["prompt_hash"]),
        rater=intern(body["rater"]["id_hash"]),
        rater_kind=intern(body["rater"]["kind"]),
        basis=intern(body.get("basis", "preference")),
        source=body.get("source"),
        licence=body.get("licence"),
        origins=(intern(body["chosen"]["origin"]), intern(body["rejected"]["origin"])),
        lengths=(len(texts.chosen), len(texts.rejected)),
        judged_at=datetime.fromisoformat(body["judged_at"]).timestamp(),
    )


def benchmarks_of(settings: DatasetSettings) -> Benchmarks:
    """The items that nothing may be trained on. Raises `InvalidRequest` for a file of them that cannot be read."""
    try:
        return Benchmarks(read_items(settings.benchmarks))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"A benchmark of `datasets.benchmarks` cannot be read ({error}); mend the path, or leave it out."
        ) from error
