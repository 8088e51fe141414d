"""The ratings that are part of no pair, as a part of the data set for itself: `kto` alone learns from them.

They lie on the side of the split that is trained on, weigh what age and newer releases leave of them, and pass the
rules on raters and texts that pairs pass. They measure nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair, Rater, Side
from gateway.datasets.beside import lying_beside
from gateway.datasets.bodies import body_of, texts_of, turns
from gateway.datasets.collect import Collected, Sink, as_trained, benchmarks_of, chosen_of, ignore
from gateway.datasets.plan import BRIDGES, Circumstances, Planner, weight_of
from gateway.datasets.shingles import prompt_text
from gateway.datasets.votes import PairVote, compact
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
    alias, votes, prompts = collected.alias, list[PairVote](), dict[str, str]()
    async with database.read() as session:
        project = (await session.get_one(Alias, alias)).project_id
        async for some in unpaired_ratings(session, alias, project):
            votes += map(_vote, some)
            prompts |= {one.prompt_hash: prompt_text(turns(one.prompt)) for one in some}
        gold = {rater: score.share for rater, score in (await gold_scores(session, project)).items()}
        behind = await releases_behind(session, alias)
    held_out = len(collected.part("holdout"))
    lying = await lying_beside(database, alias, settings, prompts, held_out) if votes else {}
    prompts.clear()
    handing = _Handing(votes, Circumstances(settings, lying, gold, behind, collected.at), redact, collected, sink)
    if votes:
        async with database.read() as session, aclosing(unpaired_ratings(session, alias, project)) as ratings:
            async for some in ratings:
                await asyncio.to_thread(handing.out, some)
    collected.thumbs = handing.told()


class _Handing:
    """Hands out what the rules leave. Texts are read a second time for it: all at once would fill the memory."""

    def __init__(
        self, votes: list[PairVote], known: Circumstances, redact: Redact | None, collected: Collected, sink: Sink
    ) -> None:
        planner = Planner(known)
        guarded = known.settings.profile == "public"
        left = planner.guard(votes) if guarded else votes
        self._votes = {vote.id: vote for vote in left}
        self._known, self._redact, self._collected, self._sink = known, redact, collected, sink
        self._ratings, self._up = len(votes), Counter[bool]()
        self._benchmarks, self._plan = benchmarks_of(known.settings), planner.finish()
        self._apart = Collected(collected.alias, collected.at, {}, self._plan, redacted=collected.redacted)

    def out(self, ratings: Iterable[UnpairedRating]) -> None:
        """Some of them. One that came or changed while prompts were settled is left for the next data set."""
        for one in ratings:
            vote, lies = self._votes.get(one.feedback_id), self._known.lying.get(one.prompt_hash)
            if vote is None or lies is None:
                continue
            if lies.bridges or lies.side != "train":
                self._plan.dropped[BRIDGES if lies.bridges else HELD_OUT] += 1
                continue
            body = body_of(_both_sides(one, weight_of(vote, self._known)))
            kept = as_trained(body, self._benchmarks, self._redact, self._apart, sides_differ=False)
            if kept is not None:
                self._up[one.up] += 1
                self._sink(kept | {LABEL: one.up}, chosen_of(kept, texts_of(kept), lies, raters=1))

    def told(self) -> dict[str, Any]:
        """For the card."""
        answers = {"answers": self._up.total(), "up": self._up[True], "down": self._up[False]}
        return {"ratings": self._ratings, **answers, "dropped": dict(sorted(self._plan.dropped.items()))}


def _vote(rating: UnpairedRating) -> PairVote:
    """As the rules on raters look at it."""
    vote = PairVote(
        rating.feedback_id, rating.feedback_id, rating.prompt_hash, 0, 0, rating.rater_hash, rating.rater_kind,
        rating.rater_trusted, "ratings", None, 1.0, rating.judged_at, rating.release_id, None,
    )  # fmt: skip
    return compact(vote)


def _both_sides(rating: UnpairedRating, weight: float) -> FeedbackPair:
    answer = Side(
        message=Message.model_validate(rating.message),
        origin="model",
        completion_id=rating.completion_id,
        index=rating.choice,
        release_id=rating.release_id,
    )
    return FeedbackPair(
        id=rating.feedback_id,
        project_id=rating.project_id,
        prompt=tuple(map(Message.model_validate, rating.prompt)),
        tools=tuple(rating.tools),
        prompt_hash=rating.prompt_hash,
        chosen=answer,
        rejected=answer,
        weight=weight,
        basis="ratings",
        rater=Rater(id_hash=rating.rater_hash, kind=rating.rater_kind, trusted=rating.rater_trusted),
        feedback_ids=(rating.feedback_id,),
        judged_at=datetime.fromtimestamp(rating.judged_at, UTC),
    )
