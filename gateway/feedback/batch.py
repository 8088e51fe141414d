"""Takes many votes in with few statements: those that are the first word of their rater on their prompt.

Whatever else there is (a vote that is known, a rater who said something of this prompt before, an import, a vote on a
completion that is not stored) goes one by one through `FeedbackCapture`, in the same transaction. Both ways store the
same rows; this one only asks the database less often.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import PAIR, mint
from gateway.contracts.pair import Rater
from gateway.errors import AlignwayError
from gateway.feedback.bodies import AnyBody, BodyOnChoices, CorrectionBody
from gateway.feedback.capture import Captured, FeedbackCapture, new_row
from gateway.feedback.completions import Prompt, logged_choice, prompt_of
from gateway.feedback.derivation import judgement_of, lock_name
from gateway.feedback.identity import Caller
from gateway.feedback.pairing import pair_of, within_limit
from gateway.feedback.replies import feedback_reply
from gateway.feedback.standing import state_of, status_of, under
from gateway.feedback.targets import CompletionNotStored, may_rate
from gateway.feedback.vote import Vote
from gateway.storage import feedback as rows
from gateway.storage import pairs as pair_rows
from gateway.storage import ratings
from gateway.storage.feedback_tables import Feedback, PairRow
from gateway.storage.raters import Standing, load_standings
from gateway.storage.upsert import plain_row
from gateway.storage.votes_of import completions_in

Keep = Callable[[AsyncSession, Captured], Awaitable[None]]


@dataclass(frozen=True)
class Ballot:
    """A vote that waits to be taken in."""

    caller: Caller
    body: AnyBody
    rater: Rater
    keep: Keep | None = None
    """What else is to be written in the vote's transaction."""


@dataclass(frozen=True)
class _Judged:
    ballot: Ballot
    vote: Vote
    values: dict[str, Any]
    """Of its row."""
    standing: Standing = field(default_factory=Standing)

    @property
    def rater_and_prompt(self) -> tuple[str, str, str]:
        return self.ballot.caller.project_id, self.vote.prompt_hash, self.vote.rater.id_hash

    @property
    def natural_key(self) -> tuple[str, str]:
        return self.ballot.caller.project_id, self.vote.natural_key


class VoteBatch:
    """The use case behind `POST /v1/feedback`, for many at once."""

    def __init__(self, capture: FeedbackCapture) -> None:
        self.capture = capture
        """The use case for one vote."""

    async def __call__(self, session: AsyncSession, ballots: Sequence[Ballot]) -> list[Captured | Exception]:
        """For each vote what became of it, or why it was refused."""
        outcomes = await self._first_words(session, ballots)
        for place, ballot in enumerate(ballots):
            if place not in outcomes:
                outcomes[place] = await self._alone(session, ballot)
            captured = outcomes[place]
            if ballot.keep is not None and isinstance(captured, Captured):
                await ballot.keep(session, captured)
        return [outcomes[place] for place in range(len(ballots))]

    async def _alone(self, session: AsyncSession, ballot: Ballot) -> Captured | Exception:
        try:
            async with session.begin_nested():
                return await self.capture.capture(session, ballot.caller, ballot.body, ballot.rater)
        except AlignwayError as error:
            return error

    async def _first_words(self, session: AsyncSession, ballots: Sequence[Ballot]) -> dict[int, Captured | Exception]:
        """What became of the votes that could be taken in together, by their places."""
        wanted = {ref.completion_id for b in ballots if isinstance(b.body, BodyOnChoices) for ref in b.body.targets}
        answered = await rows.answered_by_id(session, wanted)
        judged, outcomes = self._judge(ballots, answered)
        judged = await self._standing(session, await self._without_earlier_words(session, judged))
        if not judged:
            return outcomes
        created = await rows.insert_feedbacks(session, [one.values for one in judged.values()])
        made = {place: one for place, one in judged.items() if one.values["id"] in created}
        stored = {place: plain_row(Feedback, one.values) for place, one in made.items()}
        users = {id_: one.end_user_hash for id_, one in answered.items()}
        await self.capture.keep_history(session, list(stored.values()), users)
        pairs = {place: self._pairs(stored[place], one) for place, one in made.items()}
        await pair_rows.add_pairs(session, [row for derived in pairs.values() for row in derived])
        for place, feedback in stored.items():
            outcomes[place] = Captured(feedback_reply(feedback, pairs[place]), created=True)
        return outcomes

    def _judge(
        self, ballots: Sequence[Ballot], answered: Mapping[str, rows.Answered]
    ) -> tuple[dict[int, _Judged], dict[int, Captured | Exception]]:
        """The votes whose completions are stored, one for each natural key and each rater and prompt; and refusals."""
        completions = {id_: (one, prompt_of(one, self.capture.settings)) for id_, one in answered.items()}
        judged: dict[int, _Judged] = {}
        refused: dict[int, Captured | Exception] = {}
        taken: set[tuple[str, ...]] = set()
        now = time.time()
        for place, ballot in enumerate(ballots):
            if not isinstance(ballot.body, BodyOnChoices) or isinstance(ballot.body, CorrectionBody):
                continue
            try:
                vote = self._vote(ballot, ballot.body, completions)
            except AlignwayError as error:
                refused[place] = error
                continue
            one = _Judged(ballot, vote, new_row(ballot.caller, vote, now))
            if one.natural_key not in taken and one.rater_and_prompt not in taken:
                judged[place] = one
            taken |= {one.natural_key, one.rater_and_prompt}
        return judged, refused

    def _vote(self, ballot: Ballot, body: BodyOnChoices, completions: dict[str, tuple[rows.Answered, Prompt]]) -> Vote:
        choices = []
        for ref in body.targets:
            found = completions.get(ref.completion_id)
            if found is None or not may_rate(ballot.caller, found[0], self.capture.settings):
                raise CompletionNotStored(ref.completion_id)
            choices.append(logged_choice(*found, ref))
        return self.capture.vote_of(body, ballot.rater, choices)

    async def _without_earlier_words(self, session: AsyncSession, judged: dict[int, _Judged]) -> dict[int, _Judged]:
        """Those whose rater has said nothing of the prompt before; none, where raters are paired with each other."""
        rules = self.capture.rules
        if rules.settings.pairing.across_raters:
            return {}
        names = sorted({lock_name(*one.rater_and_prompt, rules) for one in judged.values()})
        await ratings.lock_prompts(session, names)
        spoken = await ratings.earlier_words(session, [one.rater_and_prompt for one in judged.values()])
        return {place: one for place, one in judged.items() if one.rater_and_prompt not in spoken}

    async def _standing(self, session: AsyncSession, judged: dict[int, _Judged]) -> dict[int, _Judged]:
        """The votes with what operators decided about their raters and keys."""
        named = {place: set(completions_in(one.vote.body)) for place, one in judged.items()}
        raters = {(one.ballot.caller.project_id, one.vote.rater.id_hash) for one in judged.values()}
        found = await load_standings(session, raters, {id_ for ids in named.values() for id_ in ids})
        standing: dict[int, _Judged] = {}
        for place, one in judged.items():
            caller = one.ballot.caller
            own = found.of(caller.project_id, one.vote.rater.id_hash, caller.key_id, named[place])
            vote = under(one.vote, own)
            values = one.values | {"status": status_of(own), "rater_trusted": vote.rater.trusted}
            standing[place] = _Judged(one.ballot, vote, values, own)
        return standing

    def _pairs(self, feedback: Feedback, judged: _Judged) -> list[PairRow]:
        """The pairs of a first word: nothing was said before that they could be paired or counted with."""
        vote, limit = judged.vote, self.capture.rules.settings.pairing.pairs_per_prompt
        candidates = within_limit(vote.candidates, taken=0, limit=limit)
        if not candidates:
            return []
        judgement = judgement_of(feedback, vote)
        ids = sorted(mint(PAIR) for _ in candidates)
        return [
            pair_rows.pair_row(pair_of(judgement, candidate, id_), vote.alias, *state_of(candidate, judged.standing))
            for id_, candidate in zip(ids, candidates, strict=True)
        ]
