"""Takes a vote in: finds what it is about, stores it once, derives its pairs, and answers.

Everything happens in the session that is handed in; the caller commits. A repeated vote changes nothing, a different
one on the same thing is a new revision whose pairs replace the old ones.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import FEEDBACK, mint
from gateway.contracts.pair import Rater, RaterKind
from gateway.errors import Conflict, InvalidRequest
from gateway.feedback.bodies import AnyBody, BodyOnChoices, CorrectionBody, PairBatchBody, PairBody
from gateway.feedback.completions import LoggedChoice
from gateway.feedback.derivation import derive_pairs, lock_name, retire_pairs
from gateway.feedback.harm import tell_harm
from gateway.feedback.hygiene import Strangers
from gateway.feedback.identity import (
    DELEGATE,
    WRITE_TEXT,
    Caller,
    KeyedHashes,
    draw,
    own_rater,
    rater_of,
    require_scope,
)
from gateway.feedback.import_alias import alias_of_import
from gateway.feedback.import_store import ImportStore, ImportTerms
from gateway.feedback.imports import read_rows
from gateway.feedback.pairing import RETRACTED, SUPERSEDED
from gateway.feedback.reading import FeedbackNotFound
from gateway.feedback.replies import deleted_reply, feedback_reply, list_reply
from gateway.feedback.standing import status_of, under
from gateway.feedback.targets import load_targets
from gateway.feedback.updates import updated
from gateway.feedback.vote import Rules, Vote, natural_key_of, vote_on_choices
from gateway.settings import FeedbackSettings
from gateway.storage import feedback as rows
from gateway.storage import pairs as pair_rows
from gateway.storage.feedback_tables import Feedback
from gateway.storage.raters import Standing, load_standings
from gateway.storage.ratings import lock_prompts
from gateway.storage.votes_of import completions_in


@dataclass(frozen=True)
class Captured:
    """The answer to a vote, and whether anything new was stored under a new id."""

    reply: dict[str, Any]
    created: bool


class FeedbackCapture:
    """The use case behind `/v1/feedback`."""

    def __init__(
        self, settings: FeedbackSettings, hashes: KeyedHashes, harmful_tags: Collection[str] = ("harmful",)
    ) -> None:
        """`harmful_tags`: of a vote that bears one, people are told at once."""
        self._settings = settings
        self._harmful_tags = frozenset(tag.casefold() for tag in harmful_tags)
        self._hashes = hashes
        self._imports = ImportStore(settings)
        self.rules = Rules(settings, Strangers(settings.pairing.identities, settings.pairing.makers))

    async def capture(
        self, session: AsyncSession, caller: Caller, body: AnyBody, rater: Rater | None = None
    ) -> Captured:
        """Store a vote, or all votes of a batch. Raises an `AlignwayError` that says what is wrong with it.

        `rater`: who judged, where that is settled already; otherwise the one in the body, or the key itself.
        """
        rater = rater or rater_of(caller, body, self._hashes)
        if isinstance(body, CorrectionBody | PairBody | PairBatchBody):
            require_scope(caller, WRITE_TEXT, "text that was not written by the model")
        if isinstance(body, PairBody | PairBatchBody):
            return await self._import(session, caller, rater, body)
        return await self._store(session, caller, await self._judge(session, caller, body, rater))

    async def retract(self, session: AsyncSession, caller: Caller, feedback_id: str) -> dict[str, Any]:
        """Take a vote back: its pairs train no more. Voters may take back their own; delegates those of others."""
        feedback = await self._own(session, caller, feedback_id, "retracting the vote of another rater")
        if feedback.status != RETRACTED:
            feedback.status, feedback.updated_at = RETRACTED, time.time()
            await retire_pairs(session, feedback, RETRACTED, but_not=SUPERSEDED)
            await session.flush()
        return deleted_reply(feedback.id)

    async def update(self, session: AsyncSession, caller: Caller, feedback_id: str, changes: object) -> dict[str, Any]:
        """Change a vote: a new revision; if its verdict is touched, its pairs are derived anew. Raises as `capture`."""
        feedback = await self._own(session, caller, feedback_id, "changing the vote of another rater")
        if feedback.status == RETRACTED:
            raise Conflict("This vote was taken back. Send it again to POST /v1/feedback to give it anew.")
        update = updated(feedback.type, feedback.body, changes)
        if update.verdict is None:
            return (await self._annotate(session, feedback, update.body)).reply
        if isinstance(update.verdict, CorrectionBody):
            require_scope(caller, WRITE_TEXT, "text that was not written by the model")
        rater = _rater_of_row(feedback)
        if natural_key_of(update.verdict, rater) != feedback.natural_key:
            raise InvalidRequest(
                "A vote stays about the choices it was given on. For other choices send a new vote.",
                code="other_choices",
            )
        vote = await self._judge(session, caller, update.verdict, rater)
        vote, standing = await self._under_standing(session, caller, vote)
        return (await self._revise(session, feedback, vote, standing, time.time())).reply

    async def _own(self, session: AsyncSession, caller: Caller, feedback_id: str, why: str) -> Feedback:
        """A vote that the caller may change, locked; what else concerns its prompt is locked before it."""
        found = await rows.find_feedback(session, caller.project_id, feedback_id)
        if found is None:
            raise FeedbackNotFound(feedback_id)
        if found.rater_hash != own_rater(caller, self._hashes).id_hash:
            require_scope(caller, DELEGATE, why)
        await lock_prompts(session, [lock_name(found.project_id, found.prompt_hash, found.rater_hash, self.rules)])
        feedback = await rows.find_feedback(session, caller.project_id, feedback_id, lock=True)
        if feedback is None:
            raise FeedbackNotFound(feedback_id)
        return feedback

    async def tell_harm(self, session: AsyncSession, votes: Iterable[Feedback]) -> None:
        """Have people told of those votes that say that an answer does harm."""
        await tell_harm(session, votes, self._harmful_tags)

    async def _keep_history(self, session: AsyncSession, vote: Feedback) -> None:
        """Note what a vote says now, and have people told if it says that an answer does harm."""
        await rows.add_revision(session, vote)
        await self.tell_harm(session, [vote])

    async def _import(
        self, session: AsyncSession, caller: Caller, rater: Rater, body: PairBody | PairBatchBody
    ) -> Captured:
        read = read_rows(body)
        terms = ImportTerms(
            project_id=caller.project_id,
            key_id=caller.key_id,
            alias=await alias_of_import(session, caller.project_id, body.alias),
            source=body.source,
            licence=body.licence,
            rater=rater,
            said=body.said,
        )
        stored = await self._imports.store(session, terms, read.imported)
        derived = await pair_rows.pairs_of_feedback(session, [vote.id for vote in stored.votes], but_not=SUPERSEDED)
        replies = [feedback_reply(vote, derived[vote.id]) for vote in stored.votes]
        if isinstance(body, PairBody) and len(replies) == 1:
            return Captured(replies[0], stored.new > 0)
        errors = {"errors": [error.as_json for error in read.errors]} if read.errors else {}
        return Captured(list_reply(replies) | errors, stored.new > 0)

    async def _judge(self, session: AsyncSession, caller: Caller, body: BodyOnChoices, rater: Rater) -> Vote:
        return self.vote_of(body, rater, await load_targets(session, caller, body.targets, self._settings))

    def vote_of(self, body: BodyOnChoices, rater: Rater, choices: Sequence[LoggedChoice]) -> Vote:
        """What a body says of its choices. Raises `InvalidRequest`."""
        review_draw = 1.0
        if isinstance(body, CorrectionBody):
            review_draw = draw(self._hashes, "review", natural_key_of(body, rater))
        return vote_on_choices(body, rater, choices, self.rules, review_draw)

    @property
    def settings(self) -> FeedbackSettings:
        """By which votes are taken in."""
        return self._settings

    async def _store(self, session: AsyncSession, caller: Caller, vote: Vote) -> Captured:
        now = time.time()
        if vote.is_limited:
            name = lock_name(caller.project_id, vote.prompt_hash, vote.rater.id_hash, self.rules)
            await lock_prompts(session, [name])
        vote, standing = await self._under_standing(session, caller, vote)
        row = new_row(caller, vote, now) | {"status": status_of(standing)}
        created = await rows.insert_feedback(session, row)
        feedback = await rows.lock_feedback(session, caller.project_id, vote.natural_key)
        if not created:
            return await self._revise(session, feedback, vote, standing, now)
        await self._keep_history(session, feedback)
        derived = await derive_pairs(session, feedback, vote, self.rules, standing)
        return Captured(feedback_reply(feedback, derived), created=True)

    async def _under_standing(self, session: AsyncSession, caller: Caller, vote: Vote) -> tuple[Vote, Standing]:
        """The vote with what operators decided about its rater and the keys that have part in it."""
        named, rater = set(completions_in(vote.body)), (caller.project_id, vote.rater.id_hash)
        standing = (await load_standings(session, [rater], named)).of(*rater, caller.key_id, named)
        return under(vote, standing), standing

    async def _revise(
        self, session: AsyncSession, feedback: Feedback, vote: Vote, standing: Standing, now: float
    ) -> Captured:
        if _says_the_same(feedback, vote):
            return await self._as_it_is(session, feedback)
        await retire_pairs(session, feedback, SUPERSEDED, but_not=SUPERSEDED)
        _revise_row(feedback, vote, status_of(standing), now)
        await self._keep_history(session, feedback)
        derived = await derive_pairs(session, feedback, vote, self.rules, standing)
        return Captured(feedback_reply(feedback, derived), created=False)

    async def _annotate(self, session: AsyncSession, feedback: Feedback, body: dict[str, Any]) -> Captured:
        if body != feedback.body:
            feedback.body, feedback.revision, feedback.updated_at = body, feedback.revision + 1, time.time()
            await self._keep_history(session, feedback)
        return await self._as_it_is(session, feedback)

    async def _as_it_is(self, session: AsyncSession, feedback: Feedback) -> Captured:
        pairs = await pair_rows.pairs_of_feedback(session, [feedback.id], but_not=SUPERSEDED)
        return Captured(feedback_reply(feedback, pairs[feedback.id]), created=False)


def _says_the_same(feedback: Feedback, vote: Vote) -> bool:
    same = feedback.body == vote.body and feedback.rater_kind == vote.rater.kind
    return same and feedback.status != RETRACTED


def _rater_of_row(feedback: Feedback) -> Rater:
    kind: RaterKind = feedback.rater_kind  # type: ignore[assignment]  # a column of plain text
    return Rater(id_hash=feedback.rater_hash, kind=kind, trusted=feedback.rater_trusted)


def new_row(caller: Caller, vote: Vote, now: float) -> dict[str, Any]:
    """The columns of a vote that is new."""
    return {
        "id": mint(FEEDBACK),
        "project_id": caller.project_id,
        "key_id": caller.key_id,
        "alias": vote.alias,
        "natural_key": vote.natural_key,
        "type": vote.type,
        "status": "active",
        "revision": 1,
        "rater_hash": vote.rater.id_hash,
        "rater_kind": vote.rater.kind,
        "rater_trusted": vote.rater.trusted,
        "prompt_hash": vote.prompt_hash,
        "leaning": vote.leaning,
        "body": vote.body,
        "target": vote.target,
        "created_at": now,
        "updated_at": now,
    }


def _revise_row(feedback: Feedback, vote: Vote, status: str, now: float) -> None:
    feedback.body, feedback.target, feedback.alias = vote.body, vote.target, vote.alias
    feedback.rater_kind, feedback.rater_trusted = vote.rater.kind, vote.rater.trusted
    feedback.prompt_hash, feedback.leaning, feedback.status = vote.prompt_hash, vote.leaning, status
    feedback.revision, feedback.updated_at = feedback.revision + 1, now
