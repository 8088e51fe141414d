"""Everything that is stored about one user as one JSON document, and where it was used: the right of access."""

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from gateway.feedback.identity import KeyedHashes
from gateway.privacy import dataset_files
from gateway.privacy.erasure import hashes_of_user
from gateway.storage import user_records as rows
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion, Feedback, FeedbackRevision, PairRow


async def export_user(
    database: Database, store: Path, hashes: KeyedHashes, user: str, project: str | None = None
) -> dict[str, Any]:
    """The document. Raises what `hashes_of_user` raises; somebody unknown is a document of empty lists."""
    async with database.read() as session:
        project_id, end_user, by_project = await hashes_of_user(session, hashes, user, project)
        raters = sorted(by_project.values())
        completions = await rows.completions_of(session, end_user, project_id)
        votes = await rows.votes_of(session, raters)
        revisions = await rows.revisions_of(session, votes)
        pairs = await rows.pairs_of(session, end_user, raters, project_id)
        usage = await rows.usage_of(session, end_user, project_id)
        datasets = await rows.datasets_on_disk(session)
    of_pairs = {pair.feedback_id for pair in pairs}
    used: set[str] = set()
    for dataset in datasets if of_pairs else ():
        if await asyncio.to_thread(dataset_files.holds_any, store / dataset.location, of_pairs):
            used.add(dataset.id)
    async with database.read() as session:
        releases = await rows.trained_on(session, used)
    return {
        "object": "user.export",
        "created_at": int(time.time()),
        "end_user_hash": end_user,
        "rater_hashes": raters,
        "completions": [_completion(row) for row in completions],
        "votes": _votes(votes, revisions),
        "pairs": [_pair(row) for row in pairs],
        "usage": [
            {"month": row.month, "key": row.key_id, "requests": row.requests, "prompt_tokens": row.prompt_tokens,
             "completion_tokens": row.completion_tokens}
            for row in usage
        ],
        "used_in": {"datasets": sorted(used), "releases": [release.id for release in releases]},
    }  # fmt: skip


def _completion(row: Completion) -> dict[str, Any]:
    return {
        "id": row.id,
        "project": row.project_id,
        "created_at": int(row.created_at),
        "alias": row.alias,
        "release": row.release_id,
        "messages": row.messages,
        "choices": row.choices,
        "parameters": row.parameters,
        "metadata": row.call_metadata,
        "usage": row.usage,
    }


def _votes(votes: Any, revisions: Any) -> list[dict[str, Any]]:
    history: dict[str, list[FeedbackRevision]] = defaultdict(list)
    for revision in revisions:
        history[revision.feedback_id].append(revision)

    def view(vote: Feedback) -> dict[str, Any]:
        said = [{"revision": one.revision, "at": int(one.at), "body": one.body} for one in history[vote.id]]
        return {"id": vote.id, "project": vote.project_id, "type": vote.type, "status": vote.status, "revisions": said}

    return [view(vote) for vote in votes]


def _pair(row: PairRow) -> dict[str, Any]:
    """Without its rater: that may be somebody else."""
    body = {name: value for name, value in row.body.items() if name not in ("rater", "id", "feedback_ids")}
    return {"id": row.id, "vote": row.feedback_id, "state": row.state, "reason": row.reason} | body
