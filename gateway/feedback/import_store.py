"""Stores imported pairs, as votes of whoever imports them: once each, a thousand in a few statements.

Everything happens in the session that is handed in; the caller commits. A pair that is there already changes nothing;
one that was taken back, or said something else of itself, becomes a new revision.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import FEEDBACK, PAIR, mint
from gateway.contracts.pair import Rater
from gateway.feedback.identity import key_of_content
from gateway.feedback.imports import Imported
from gateway.feedback.pairing import RETRACTED, SUPERSEDED, Judgement, pair_of
from gateway.feedback.standing import state_of, status_of
from gateway.settings import FeedbackSettings
from gateway.storage import imports as rows
from gateway.storage import pairs as pair_rows
from gateway.storage.feedback_tables import Feedback
from gateway.storage.pairs import pair_values
from gateway.storage.raters import Standing, load_standings


@dataclass(frozen=True)
class ImportTerms:
    """What is said of all pairs of an import."""

    project_id: str
    key_id: str
    alias: str
    source: str
    licence: str
    rater: Rater
    said: dict[str, Any]
    """What else the body says: tags, a comment, metadata."""


@dataclass(frozen=True)
class StoredImports:
    """The votes of an import in the order of its pairs, and how many of them are new or changed."""

    votes: tuple[Feedback, ...]
    new: int
    revised: int


class ImportStore:
    """The use case behind imports, be it one pair over HTTP or a file."""

    def __init__(self, settings: FeedbackSettings) -> None:
        self._settings = settings

    async def store(self, session: AsyncSession, terms: ImportTerms, imported: Sequence[Imported]) -> StoredImports:
        """Store the pairs, with at most a few thousand in one call."""
        if not imported:
            return StoredImports((), 0, 0)
        now = time.time()
        rater = (terms.project_id, terms.rater.id_hash)
        standing = (await load_standings(session, [rater], ())).of(*rater, terms.key_id, ())
        keys = [key_of_content(terms.rater, one.content_hash, one.pair.external_id) for one in imported]
        by_key = dict(zip(keys, imported, strict=True))
        new = await rows.insert_votes(
            session, [_vote(terms, key, one, status_of(standing), now) for key, one in by_key.items()]
        )
        votes = await rows.votes_by_key(session, terms.project_id, by_key)
        changed = [vote for key, vote in votes.items() if vote.id not in new and _says_else(vote, terms, by_key[key])]
        for vote in changed:
            await pair_rows.exclude_pairs(session, vote.id, SUPERSEDED, but_not=SUPERSEDED)
            _revise(vote, terms, by_key[vote.natural_key], status_of(standing), now)
        fresh = [vote for vote in votes.values() if vote.id in new] + changed
        await session.flush()
        await self._derive(session, terms, [(vote, by_key[vote.natural_key]) for vote in fresh], standing, now)
        return StoredImports(tuple(votes[key] for key in keys), len(new), len(changed))

    async def _derive(
        self,
        session: AsyncSession,
        terms: ImportTerms,
        fresh: Sequence[tuple[Feedback, Imported]],
        standing: Standing,
        now: float,
    ) -> None:
        if not fresh:
            return
        await rows.insert_revisions(
            session,
            [
                {"feedback_id": vote.id, "revision": vote.revision, "body": vote.body, "at": vote.updated_at}
                for vote, _ in fresh
            ],
        )
        trust = self._settings.trust.imported_pair
        await rows.insert_pairs(session, [_pair(terms, vote, one, trust, standing, now) for vote, one in fresh])


def _vote(terms: ImportTerms, natural_key: str, imported: Imported, status: str, now: float) -> dict[str, Any]:
    return {
        "id": mint(FEEDBACK),
        "project_id": terms.project_id,
        "alias": terms.alias,
        "natural_key": natural_key,
        "type": "pair",
        "status": status,
        "revision": 1,
        "rater_hash": terms.rater.id_hash,
        "rater_kind": terms.rater.kind,
        "body": _body(terms, imported),
        "target": _target(terms, imported),
        "created_at": now,
        "updated_at": now,
    }


def _body(terms: ImportTerms, imported: Imported) -> dict[str, Any]:
    """What is kept of an imported vote: its text lies in the pair alone."""
    body = terms.said | {
        "type": "pair",
        "source": imported.pair.source or terms.source,
        "licence": imported.pair.licence or terms.licence,
        "weight": imported.pair.weight,
        "content_hash": imported.content_hash,
    }
    return body | ({"external_id": imported.pair.external_id} if imported.pair.external_id else {})


def _target(terms: ImportTerms, imported: Imported) -> dict[str, Any]:
    return {"prompt_hash": imported.prompt_hash, "alias": terms.alias, "release_ids": []}


def _says_else(vote: Feedback, terms: ImportTerms, imported: Imported) -> bool:
    same = vote.body == _body(terms, imported) and vote.alias == terms.alias and vote.rater_kind == terms.rater.kind
    return not same or vote.status == RETRACTED


def _revise(vote: Feedback, terms: ImportTerms, imported: Imported, status: str, now: float) -> None:
    vote.body, vote.target, vote.alias = _body(terms, imported), _target(terms, imported), terms.alias
    vote.rater_kind, vote.status = terms.rater.kind, status
    vote.revision, vote.updated_at = vote.revision + 1, now


def _pair(
    terms: ImportTerms, vote: Feedback, imported: Imported, trust: float, standing: Standing, now: float
) -> dict[str, Any]:
    read = imported.pair
    judged_at = datetime.fromtimestamp(now, UTC)
    judgement = Judgement(
        feedback_ids=(vote.id,),
        project_id=terms.project_id,
        messages=read.prompt,
        tools=read.tools,
        prompt_hash=imported.prompt_hash,
        rater=terms.rater,
        judged_at=min(read.judged_at, judged_at) if read.judged_at else judged_at,
        basis=read.basis,
        source=read.source or terms.source,
        licence=read.licence or terms.licence,
    )
    candidate = imported.candidate(trust)
    pair = pair_of(judgement, candidate, mint(PAIR))
    # It is new today, whenever it was judged.
    return pair_values(pair, terms.alias, *state_of(candidate, standing)) | {"created_at": now}
