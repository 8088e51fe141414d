"""Takes a vote in: finds what it is about, stores it once, derives its pairs, and answers.

Everything happens in the session that is handed in; the caller commits. A repeated vote changes nothing, a different
one on the same thing is a new revision whose pairs replace the old ones.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import FEEDBACK, PAIR, mint
from gateway.contracts.pair import Rater
from gateway.feedback.bodies import AnyBody, CorrectionBody, PairBatchBody, PairBody, PreferenceBody
from gateway.feedback.identity import DELEGATE, WRITE_TEXT, Caller, KeyedHashes, own_rater, rater_of, require_scope
from gateway.feedback.import_alias import alias_of_import
from gateway.feedback.import_store import ImportStore, ImportTerms
from gateway.feedback.imports import read_rows
from gateway.feedback.pairing import RETRACTED, SUPERSEDED, Judgement, pair_of
from gateway.feedback.reading import FeedbackNotFound
from gateway.feedback.replies import deleted_reply, feedback_reply, list_reply
from gateway.feedback.standing import state_of, status_of, under
from gateway.feedback.targets import load_targets
from gateway.feedback.vote import Vote, correction_vote, preference_vote
from gateway.settings import FeedbackSettings
from gateway.storage import feedback as rows
from gateway.storage import pairs as pair_rows
from gateway.storage.feedback_tables import Feedback, PairRow
from gateway.storage.raters import Standing, load_standings
from gateway.storage.votes_of import completions_in


@dataclass(frozen=True)
class Captured:
    """The answer to a vote, and whether anything new was stored under a new id."""

    reply: dict[str, Any]
    created: bool


class FeedbackCapture:
    """The use case behind `/v1/feedback`."""

    def __init__(self, settings: FeedbackSettings, hashes: KeyedHashes) -> None:
        self._settings = settings
        self._hashes = hashes
        self._imports = ImportStore(settings)

    async def capture(
        self, session: AsyncSession, caller: Caller, body: AnyBody, rater: Rater | None = None
    ) -> Captured:
        """Store a vote, or all votes of a batch. Raises an `AlignwayError` that says what is wrong with it.

        `rater`: who judged, where that is settled already; otherwise the one in the body, or the key itself.
        """
        rater = rater or rater_of(caller, body, self._hashes)
        if isinstance(body, PreferenceBody):
            choices = await load_targets(session, caller, body.targets, self._settings)
            return await self._store(session, caller, preference_vote(body, rater, choices, self._settings))
        require_scope(caller, WRITE_TEXT, "text that was not written by the model")
        if isinstance(body, CorrectionBody):
            choices = await load_targets(session, caller, body.targets, self._settings)
            return await self._store(session, caller, correction_vote(body, rater, choices, self._settings))
        return await self._import(session, caller, rater, body)

    async def retract(self, session: AsyncSession, caller: Caller, feedback_id: str) -> dict[str, Any]:
        """Take a vote back: its pairs train no more. Voters may take back their own; delegates those of others."""
        feedback = await rows.find_feedback(session, caller.project_id, feedback_id, lock=True)
        if feedback is None:
            raise FeedbackNotFound(feedback_id)
        if feedback.rater_hash != own_rater(caller, self._hashes).id_hash:
            require_scope(caller, DELEGATE, "retracting the vote of another rater")
        if feedback.status != RETRACTED:
            feedback.status, feedback.updated_at = RETRACTED, time.time()
            await pair_rows.exclude_pairs(session, feedback.id, RETRACTED, but_not=SUPERSEDED)
            await session.flush()
        return deleted_reply(feedback.id)

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

    async def _store(self, session: AsyncSession, caller: Caller, vote: Vote) -> Captured:
        now = time.time()
        named, rater = set(completions_in(vote.body)), (caller.project_id, vote.rater.id_hash)
        standing = (await load_standings(session, [rater], named)).of(*rater, caller.key_id, named)
        vote = under(vote, standing)
        created = await rows.insert_feedback(session, _new_row(caller.project_id, vote, status_of(standing), now))
        feedback = await rows.lock_feedback(session, caller.project_id, vote.natural_key)
        if not created and _says_the_same(feedback, vote):
            derived = await pair_rows.pairs_of_feedback(session, [feedback.id], but_not=SUPERSEDED)
            return Captured(feedback_reply(feedback, derived[feedback.id]), created=False)
        if not created:
            await pair_rows.exclude_pairs(session, feedback.id, SUPERSEDED, but_not=SUPERSEDED)
            _revise(feedback, vote, status_of(standing), now)
        await rows.add_revision(session, feedback)
        return Captured(feedback_reply(feedback, await self._derive(session, feedback, vote, standing)), created)

    async def _derive(self, session: AsyncSession, feedback: Feedback, vote: Vote, standing: Standing) -> list[PairRow]:
        judgement = Judgement(
            feedback_id=feedback.id,
            project_id=feedback.project_id,
            messages=vote.messages,
            tools=vote.tools,
            prompt_hash=vote.prompt_hash,
            rater=vote.rater,
            judged_at=datetime.fromtimestamp(feedback.updated_at, UTC),
        )
        ids = sorted(mint(PAIR) for _ in vote.candidates)  # so that their order by id is the order of derivation
        derived = []
        for pair_id, candidate in zip(ids, vote.candidates, strict=True):
            pair = pair_of(judgement, candidate, pair_id)
            state, reason = state_of(candidate.reason, standing)
            derived.append(await pair_rows.add_pair(session, pair, vote.alias, state, reason))
        return derived


def _says_the_same(feedback: Feedback, vote: Vote) -> bool:
    same = feedback.body == vote.body and feedback.rater_kind == vote.rater.kind
    return same and feedback.status != RETRACTED


def _new_row(project_id: str, vote: Vote, status: str, now: float) -> dict[str, Any]:
    return {
        "id": mint(FEEDBACK),
        "project_id": project_id,
        "alias": vote.alias,
        "natural_key": vote.natural_key,
        "type": vote.type,
        "status": status,
        "revision": 1,
        "rater_hash": vote.rater.id_hash,
        "rater_kind": vote.rater.kind,
        "body": vote.body,
        "target": vote.target,
        "created_at": now,
        "updated_at": now,
    }


def _revise(feedback: Feedback, vote: Vote, status: str, now: float) -> None:
    feedback.body, feedback.target, feedback.alias = vote.body, vote.target, vote.alias
    feedback.rater_kind, feedback.status = vote.rater.kind, status
    feedback.revision, feedback.updated_at = feedback.revision + 1, now
