"""The ratings that are part of no pair, as a part of the data set for itself: `kto` alone learns from them.

They lie on the side of the split that is trained on, weigh what age and newer releases leave of them, and pass the
rules on raters and texts that pairs pass. They measure nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.contracts.pair import FeedbackPair
from gateway.datasets.beside import lying_beside
from gateway.datasets.bodies import body_of, texts_of
from gateway.datasets.collect import Collected, Sink, as_trained, benchmarks_of, chosen_of, ignore
from gateway.datasets.plan import BRIDGES, Circumstances, Planner, weight_of
from gateway.datasets.shingles import prompt_text
from gateway.datasets.votes import PairVote
from gateway.redaction.configured import RedactPair as Redact
from gateway.settings import DatasetSettings
from gateway.storage.database import Database
from gateway.storage.gold import gold_scores
from gateway.storage.ratings import UnpairedRating, unpaired_ratings
from gateway.storage.releases import releases_behind
from gateway.storage.tables import Alias

HELD_OUT = "held_out"
"""Its prompt lies on the side to measure on."""
LABEL = "label"


async def add_thumbs(
    database: Database,
    collected: Collected,
    settings: DatasetSettings,
    redact: Redact | None = None,
    sink: Sink = ignore,
) -> None:
    """Say in `collected` what becomes of the ratings that stand alone, and hand out those that are left, oldest first.

    What is handed out has the answer on both sides, and its thumb as `label`.
    """
    alias = collected.alias
    async with database.read() as session:
        project = (await session.get_one(Alias, alias)).project_id
        ratings = await unpaired_ratings(session, alias, project)
        gold = {rater: score.share for rater, score in (await gold_scores(session, project)).items()}
        behind = await releases_behind(session, alias)
    prompts = {one.prompt_hash: prompt_text(one.prompt) for one in ratings}
    held_out = len(collected.part("holdout"))
    lying = await lying_beside(database, alias, settings, prompts, held_out) if ratings else {}
    known = Circumstances(settings, lying, gold, behind, collected.at)
    collected.thumbs = await asyncio.to_thread(_hand_out, ratings, known, redact, collected, sink)


def _hand_out(
    ratings: Sequence[UnpairedRating],
    known: Circumstances,
    redact: Redact | None,
    collected: Collected,
    sink: Sink,
) -> dict[str, Any]:
    up, benchmarks, planner = Counter[bool](), benchmarks_of(known.settings), Planner(known)
    votes = {one.feedback_id: _vote(one) for one in ratings}
    left = set(votes)
    if known.settings.profile == "public":
        left = {vote.id for vote in planner.guard(list(votes.values()))}
    plan = planner.finish()
    apart = Collected(collected.alias, collected.at, {}, plan, redacted=collected.redacted)
    for one in ratings:
        lies = known.lying[one.prompt_hash]
        if one.feedback_id not in left:
            continue
        if lies.bridges or lies.side != "train":
            plan.dropped[BRIDGES if lies.bridges else HELD_OUT] += 1
            continue
        body = body_of(_both_sides(one, collected, weight_of(votes[one.feedback_id], known)))
        kept = as_trained(body, benchmarks, redact, apart, sides_differ=False)
        if kept is not None:
            up[one.up] += 1
            sink(kept | {LABEL: one.up}, chosen_of(kept, texts_of(kept), lies, raters=1))
    told = {"ratings": len(ratings), "answers": up.total(), "up": up[True], "down": up[False]}
    return told | {"dropped": dict(sorted(plan.dropped.items()))}


def _vote(rating: UnpairedRating) -> PairVote:
    """As the rules on raters look at it."""
    who = rating.rater
    return PairVote(
        rating.feedback_id, rating.feedback_id, rating.prompt_hash, 0, 0, who.id_hash, who.kind, who.trusted,
        "ratings", None, 1.0, rating.judged_at, rating.completion.release_id, None,
    )  # fmt: skip


def _both_sides(rating: UnpairedRating, collected: Collected, weight: float) -> FeedbackPair:
    return FeedbackPair(
        id=rating.feedback_id,
        project_id=rating.project_id,
        prompt=rating.prompt,
        tools=rating.tools,
        prompt_hash=rating.prompt_hash,
        chosen=rating.completion,
        rejected=rating.completion,
        weight=weight,
        basis="ratings",
        rater=rating.rater,
        feedback_ids=(rating.feedback_id,),
        judged_at=datetime.fromtimestamp(rating.judged_at, UTC),
    )
