"""Measures a candidate against its incumbent, from what is stored; and reads back what was measured."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.rollout.answers import flaws_of
from gateway.rollout.canary import COUNTED, Trial
from gateway.rollout.evidence import (
    Rating,
    Restarts,
    Signal,
    Traffic,
    Vote,
    VoteCount,
    judge_ratings,
    judge_votes,
    signals,
)
from gateway.rollout.unattended import gates_of, unattended_ok
from gateway.sections.canary import CanarySettings
from gateway.storage import release_traffic
from gateway.storage.audit import COMMAND_LINE
from gateway.storage.tables import ReleaseRow, Replica, Rollout

READ_ANSWERS = 200
"""Answers of a release that are read for flaws in one look."""
PERSON = "key_"
DAY_SECONDS = 86400.0


@dataclass(frozen=True)
class Span:
    """From when to when a release is measured."""

    since: float
    until: float


async def measure(session: AsyncSession, rollout: Rollout, rules: CanarySettings, now: float) -> dict[str, Any]:
    """The evidence on a rollout's step, as JSON.

    In a canary both releases are measured over the same time; after it, the candidate against what the incumbent did
    in the day before.
    """
    began = rollout.step_began_at or now
    side_by_side = rollout.state == "canary"
    ours = Span(began, now)
    theirs = ours if side_by_side else Span(began - DAY_SECONDS, began)
    candidate = await _traffic(session, rollout.candidate_id, ours, rules, timed=rollout.state != "promoting")
    incumbent = await _traffic(session, rollout.incumbent_id, theirs, rules)
    votes = judge_votes(await _votes(session, rollout, rules), rules.e_value, rules.max_votes)
    ratings = judge_ratings(await _ratings(session, rollout, ours, theirs), rules.e_value)
    found = signals(candidate, incumbent, ratings, await _restarts(session, rollout), rules)
    return {
        "measured_at": now,
        "step_began_at": began,
        "share": rollout.canary_share if side_by_side else 1.0,
        "candidate": candidate.view(),
        "incumbent": incumbent.view(),
        "votes": asdict(votes),
        "ratings": asdict(ratings),
        "signals": [asdict(signal) for signal in found],
    }


async def _traffic(
    session: AsyncSession, release_id: str, span: Span, rules: CanarySettings, *, timed: bool = True
) -> Traffic:
    counts = await release_traffic.counts_by_status(session, release_id, span.since, span.until, COUNTED)
    choices = await release_traffic.newest_choices(session, release_id, span.since, span.until, READ_ANSWERS)
    flaws = await asyncio.to_thread(_count_flaws, choices)  # the event loop has requests to serve
    middle, begin = span.until - rules.ttft_seconds / 2, span.until - rules.ttft_seconds
    halves: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    if timed and span.since <= begin:  # a step that has not lasted so long says nothing of it yet
        earlier = await release_traffic.first_chunk_seconds(session, release_id, begin, middle, COUNTED)
        halves = earlier, await release_traffic.first_chunk_seconds(session, release_id, middle, span.until, COUNTED)
    return Traffic(
        requests=sum(counts.values()),
        errors=counts.get("failed", 0),
        answers=len(choices),
        empty=flaws["empty"],
        looping=flaws["looping"],
        truncated=flaws["truncated"],
        first_chunks=halves,
    )


def _count_flaws(answers: Sequence[list[Any]]) -> Counter[str]:
    return Counter(flaw for choices in answers for flaw in flaws_of(choices))


async def _votes(session: AsyncSession, rollout: Rollout, rules: CanarySettings) -> list[Vote]:
    releases = rollout.candidate_id, rollout.incumbent_id
    limit = 2 * rules.max_votes  # some say a thing twice
    rows = await release_traffic.comparisons(session, rollout.alias, releases, rollout.created_at, limit)
    return [Vote(rater, prompt, chosen == rollout.candidate_id) for rater, prompt, chosen in rows]


async def _ratings(session: AsyncSession, rollout: Rollout, ours: Span, theirs: Span) -> list[Rating]:
    found: list[tuple[float, Rating]] = []
    for release_id, span in ((rollout.candidate_id, ours), (rollout.incumbent_id, theirs)):
        is_ours = release_id == rollout.candidate_id
        rows = await release_traffic.thumbs(
            session, rollout.alias, release_id, span.since, span.until, COUNTED, newest=span is not ours
        )
        found += [(at, Rating(rater, is_ours, leaning == "down")) for rater, leaning, at in rows]
    return [rating for _, rating in sorted(found, key=lambda one: one[0])]


async def _restarts(session: AsyncSession, rollout: Rollout) -> Restarts:
    counted = Counter[bool]()
    for row in await session.scalars(select(Replica).where(Replica.alias == rollout.alias)):
        before = rollout.restarts_before.get(row.id, row.restarts)
        held = {row.weights_release_id, row.desired_weights_id, *row.adapters, *row.desired_adapters}
        counted[rollout.candidate_id in held] += max(0, row.restarts - before)
    return Restarts(counted[True], counted[False])


def trial_of(rollout: Rollout, candidate: ReleaseRow | None) -> Trial | None:
    """What is known of a candidate that has its share of traffic; None before it has."""
    if rollout.step_began_at is None:
        return None
    gates = gates_of(candidate.manifest) if candidate else ()
    evidence = rollout.evidence or {}
    return Trial(
        share=rollout.canary_share,
        began_at=rollout.step_began_at,
        asked_by_person=rollout.actor == COMMAND_LINE or rollout.actor.startswith(PERSON),
        gates_green=unattended_ok(gates)[0],
        requests=evidence["candidate"]["requests"] if evidence else 0,
        measured_at=evidence.get("measured_at", -math.inf),
        votes=VoteCount(**evidence["votes"]) if evidence else VoteCount(),
        signals=tuple(Signal(**signal) for signal in evidence["signals"]) if evidence else (),
    )
