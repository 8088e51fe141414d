"""Takes many votes in with few statements: those that are the first word of their rater on their prompt.

Whatever else there is (a vote that is known, a rater who said something of this prompt before, an import, a vote on a
completion that is not stored) goes one by one through `FeedbackCapture`, in the same transaction. Both ways store the
same rows; this one only asks the database less often.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError
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
from gateway.storage import first_words
from gateway.storage.feedback_tables import Feedback, PairRow
from gateway.storage.first_words import Answered, NewRows, as_text
from gateway.storage.pairs import pair_columns
from gateway.storage.raters import NOTHING_DECIDED, Standing
from gateway.storage.ratings import lock_prompts
from gateway.storage.upsert import plain_row

Keep = Callable[[AsyncSession, Captured], Awaitable[None]]


@dataclass(frozen=True)
class Ballot:
    """A vote that waits to be taken in."""

    caller: Caller
    body: AnyBody
    rater: Rater
    keep: Keep | None = None
    """What else is to be written in the vote's transaction."""


@dataclass(slots=True)
class _Judged:
    ballot: Ballot
    vote: Vote
    values: dict[str, Any]
    """Of its row."""
    named: frozenset[str]
    """The completions it is about."""
    standing: Standing = NOTHING_DECIDED

    @property
    def rater_and_prompt(self) -> tuple[str, str, str]:
        return self.ballot.caller.project_id, self.vote.prompt_hash, self.vote.rater.id_hash


class VoteBatch:
    """The use case behind `POST /v1/feedback`, for many at once."""

    def __init__(self, capture: FeedbackCapture) -> None:
        self.capture = capture
        """The use case for one vote."""

    async def __call__(self, session: AsyncSession, ballots: Sequence[Ballot]) -> list[Captured | Exception]:
        """For each vote what became of it, or why it was refused."""
        outcomes = await self._together(session, ballots)
        for place, ballot in enumerate(ballots):
            if place not in outcomes:
                outcomes[place] = await self._alone(session, ballot)
            captured = outcomes[place]
            if ballot.keep is not None and isinstance(captured, Captured):
                await ballot.keep(session, captured)
        return [outcomes[place] for place in range(len(ballots))]

    async def _together(self, session: AsyncSession, ballots: Sequence[Ballot]) -> dict[int, Captured | Exception]:
        """As `_first_words`. A vote that is known, though its prompt has another hash now, fails all that are with it,
        and they come again one by one; alone, it is not taken in here.
        """
        if len(ballots) > 1:
            return await self._first_words(session, ballots)
        try:
            async with session.begin_nested():
                return await self._first_words(session, ballots)
        except IntegrityError:
            return {}

    async def _alone(self, session: AsyncSession, ballot: Ballot) -> Captured | Exception:
        try:
            async with session.begin_nested():
                return await self.capture.capture(session, ballot.caller, ballot.body, ballot.rater)
        except AlignwayError as error:
            return error

    async def _first_words(self, session: AsyncSession, ballots: Sequence[Ballot]) -> dict[int, Captured | Exception]:
        """What became of the votes that could be taken in together, by their places."""
        wanted = {ref.completion_id for b in ballots if isinstance(b.body, BodyOnChoices) for ref in b.body.targets}
        answered = await first_words.answered_by_id(session, wanted)
        judged, outcomes = self._judge(ballots, answered)
        judged = await self._without_earlier_words(session, judged)
        if not judged:
            return outcomes
        await self._settle_standing(session, judged, answered)
        pairs = {place: self._pairs(one) for place, one in judged.items()}
        await first_words.add_first_words(session, _rows(judged, pairs, answered))
        votes = {place: plain_row(Feedback, one.values) for place, one in judged.items()}
        await self.capture.tell_harm(session, votes.values())
        for place, vote in votes.items():
            rows = [plain_row(PairRow, values) for values in pairs[place]]
            outcomes[place] = Captured(feedback_reply(vote, rows), created=True)
        return outcomes

    def _judge(
        self, ballots: Sequence[Ballot], answered: Mapping[str, Answered]
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
            named = frozenset(ref.completion_id for ref in ballot.body.targets)
            one = _Judged(ballot, vote, new_row(ballot.caller, vote, now), named)
            natural_key, words = (ballot.caller.project_id, vote.natural_key), one.rater_and_prompt
            if natural_key not in taken and words not in taken:
                judged[place] = one
            taken.add(natural_key)
            taken.add(words)
        return judged, refused

    def _vote(self, ballot: Ballot, body: BodyOnChoices, completions: dict[str, tuple[Answered, Prompt]]) -> Vote:
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
        if rules.settings.pairing.across_raters or not judged:
            return {}
        names = sorted({lock_name(*one.rater_and_prompt, rules) for one in judged.values()})
        await lock_prompts(session, names)
        spoken = await first_words.earlier_words(session, [one.rater_and_prompt for one in judged.values()])
        return {place: one for place, one in judged.items() if one.rater_and_prompt not in spoken}

    async def _settle_standing(
        self, session: AsyncSession, judged: dict[int, _Judged], answered: Mapping[str, Answered]
    ) -> None:
        """Put votes under what operators decided about their raters and keys."""
        raters = {(one.ballot.caller.project_id, one.vote.rater.id_hash) for one in judged.values()}
        found = await first_words.standings_of(session, raters, answered.values())
        for one in judged.values():
            caller = one.ballot.caller
            one.standing = found.of(caller.project_id, one.vote.rater.id_hash, caller.key_id, one.named)
            one.vote = under(one.vote, one.standing)
            one.values["status"] = status_of(one.standing)
            one.values["rater_trusted"] = one.vote.rater.trusted

    def _pairs(self, judged: _Judged) -> list[dict[str, Any]]:
        """The pairs of a first word: nothing was said before that they could be paired or counted with."""
        vote, limit = judged.vote, self.capture.rules.settings.pairing.pairs_per_prompt
        if not vote.candidates:
            return []
        candidates = within_limit(vote.candidates, taken=0, limit=limit)
        judgement = judgement_of(
            judged.values["id"], judged.ballot.caller.project_id, judged.values["updated_at"], vote
        )
        rows = []
        for id_, candidate in zip(sorted(mint(PAIR) for _ in candidates), candidates, strict=True):
            pair = pair_of(judgement, candidate, id_)
            columns = pair_columns(pair, vote.alias, *state_of(candidate, judged.standing))
            rows.append(columns | {"body": pair.model_dump_json(exclude_none=True)})
        return rows


def _rows(
    judged: Mapping[int, _Judged], pairs: Mapping[int, list[dict[str, Any]]], answered: Mapping[str, Answered]
) -> NewRows:
    votes, links = [], []
    for one in judged.values():
        values = one.values
        votes.append(values | {"body": as_text(values["body"]), "target": as_text(values["target"])})
        for id_ in one.named:
            user = answered[id_].end_user_hash
            links.append({"completion_id": id_, "feedback_id": values["id"], "end_user_hash": user})
    return NewRows(votes, links, [row for rows in pairs.values() for row in rows])
