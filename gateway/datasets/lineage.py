"""Which votes trained an answer, and what a vote trained: from rows and from the files of frozen data sets."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.datasets.build import DatasetNotFound
from gateway.datasets.freeze import CARD_FILE
from gateway.datasets.votes_in import PARTS, VotesIn, pairs_of_vote, votes_in
from gateway.errors import NotFound
from gateway.storage import lineage as rows
from gateway.storage.database import Database
from gateway.storage.datasets import find_dataset, taken_back
from gateway.storage.feedback_tables import Completion, Dataset, Feedback
from gateway.storage.releases import find_release
from gateway.storage.tables import ReleaseRow
from gateway.storage.user_records import trained_on

Lineage = dict[str, Any]
FREEZING_SECONDS = 3600.0
"""A data set is dated when its freezing begins, and has votes that came until it was done."""


@dataclass(frozen=True)
class Page:
    """Which of a data set's votes are listed."""

    limit: int = 100
    after: str | None = None


class Lineages:
    """The use case behind `/admin/v1/lineage`, `/v1/feedback/{id}/lineage` and `alignway lineage`."""

    def __init__(self, database: Database, store: Path) -> None:
        self._database, self._store = database, store

    async def of_completion(self, completion_id: str, page: Page) -> Lineage:
        """The release that wrote an answer, and what that was trained on."""
        async with self._database.read() as session:
            found = await session.get(Completion, completion_id)
        if found is None:
            text = f"There is no completion {completion_id!r}: it was not stored, deleted, or is older than is kept."
            raise NotFound(text, param="completion_id", code="completion_not_found")
        about = {"id": found.id, "alias": found.alias, "created_at": int(found.created_at)}
        return {"object": "lineage.completion", "completion": about} | await self._of_release(found.release_id, page)

    async def of_release(self, release: str, page: Page) -> Lineage:
        """What a release, by id or name, was trained on, and where it is served."""
        return {"object": "lineage.release"} | await self._of_release(release, page)

    async def of_dataset(self, dataset_id: str, page: Page) -> Lineage:
        """The votes of a data set, and what was trained on it."""
        async with self._database.read() as session:
            row = await find_dataset(session, dataset_id)
        if row is None:
            raise DatasetNotFound(f"There is no data set {dataset_id!r}. `alignway dataset list` shows what there is.")
        told = await self._votes_of(row, page)
        async with self._database.read() as session:
            releases = await _told_releases(session, await trained_on(session, {dataset_id}))
        return {"object": "lineage.dataset", "releases": releases} | told

    async def of_vote(self, feedback: Feedback) -> Lineage:
        """The pairs of a vote, the data sets that were frozen with it, and the releases trained on these."""
        async with self._database.read() as session:
            pairs = await rows.pairs_following_from(session, feedback.id)
            further = await rows.further_votes(session, [pair.id for pair in pairs])
            completions = await rows.completions_voted_on(session, feedback.id)
            aliases = {pair.alias for pair in pairs} | ({feedback.alias} if feedback.alias else set())
            frozen = await rows.datasets_since(session, aliases, feedback.created_at - FREEZING_SECONDS)
        holding = await asyncio.to_thread(self._holding, frozen, feedback.id)
        return {
            "object": "lineage.feedback",
            "feedback": _told_vote(feedback),
            "completions": list(completions),
            "pairs": [
                {"id": pair.id, "state": pair.state, "reason": pair.reason}
                | {"feedback": [pair.feedback_id, *further.get(pair.id, ())]}
                for pair in pairs
            ],
            "datasets": [await self._told_holding(row, found, feedback) for row, found in holding],
            "unreadable_datasets": [row.id for row in frozen if not self._is_there(row) and row.replaced_by is None],
        }

    async def _of_release(self, id_or_name: str, page: Page) -> Lineage:
        async with self._database.read() as session:
            release = await find_release(session, id_or_name)
            if release is None:
                text = f"There is no release {id_or_name!r}; `alignway releases list` shows those there are."
                raise NotFound(text, param="release", code="release_not_found")
            [told] = await _told_releases(session, [release])
            row = await find_dataset(session, release.manifest.get("dataset_id") or "")
        nothing: Lineage = {"dataset": None, "votes": _listed(VotesIn(), Page())}
        return {"release": told} | (nothing if row is None else await self._votes_of(row, page))

    async def _votes_of(self, row: Dataset, page: Page) -> Lineage:
        """The votes of a data set, or those that an erasure left of it."""
        read, found, retracted = await self._left_of(row), VotesIn(), None
        if read is not None:
            found = await asyncio.to_thread(votes_in, self._store / read.location)
            async with self._database.read() as session:
                retracted = await taken_back(session, sorted(found.sides), row.created_at)
        told = _told_dataset(row) | {
            "read_from": None if read is None else read.id,
            "votes": {part: found.count(part) for part in PARTS.values()},
            "retracted_since": retracted,
            "sources": [
                {"side": side, "basis": basis, "source": source, "pairs": count}
                for (side, basis, source), count in found.pairs.most_common()
            ],
        }
        return {"dataset": told, "votes": _listed(found, page)}

    async def _left_of(self, row: Dataset) -> Dataset | None:
        """The data set, or the newest that replaces it, whose files are there."""
        one: Dataset | None = row
        async with self._database.read() as session:
            while one is not None and not self._is_there(one):
                one = await find_dataset(session, one.replaced_by) if one.replaced_by else None
        return one

    def _is_there(self, row: Dataset) -> bool:
        return row.removed_at is None and (self._store / row.location / CARD_FILE).is_file()

    def _holding(self, frozen: Iterable[Dataset], feedback_id: str) -> list[tuple[Dataset, list[tuple[str, str]]]]:
        read = [(row, pairs_of_vote(self._store / row.location, feedback_id)) for row in frozen if self._is_there(row)]
        return [(row, pairs) for row, pairs in read if pairs]

    async def _told_holding(self, row: Dataset, pairs: list[tuple[str, str]], feedback: Feedback) -> Lineage:
        async with self._database.read() as session:
            releases = await _told_releases(session, await trained_on(session, {row.id}))
        return _told_dataset(row) | {
            "pairs": [{"id": pair, "side": side} for pair, side in pairs],
            "retracted_since": feedback.status != "active" or feedback.updated_at > row.created_at,
            "releases": releases,
        }


def _listed(found: VotesIn, page: Page) -> Lineage:
    """A page of the votes; raises `NotFound` if the one to begin behind is none of them."""
    votes = list(found.sides.items())
    begin = 0
    if page.after is not None:
        if page.after not in found.sides:
            text = f"`{page.after}` is none of these votes; give the `last_id` of the page before."
            raise NotFound(text, param="after", code="feedback_not_found")
        begin = next(place for place, (vote, _) in enumerate(votes) if vote == page.after) + 1
    listed = votes[begin : begin + page.limit]
    return {
        "object": "list",
        "data": [{"id": vote, "side": side} for vote, side in listed],
        "first_id": listed[0][0] if listed else None,
        "last_id": listed[-1][0] if listed else None,
        "has_more": begin + page.limit < len(votes),
    }


def _told_vote(feedback: Feedback) -> Lineage:
    told = {name: getattr(feedback, name) for name in ("id", "type", "status", "revision", "alias")}
    return told | {"created_at": int(feedback.created_at), "updated_at": int(feedback.updated_at)}


def _told_dataset(row: Dataset) -> Lineage:
    return {
        "id": row.id,
        "alias": row.alias,
        "created_at": int(row.created_at),
        "removed_at": None if row.removed_at is None else int(row.removed_at),
        "replaced_by": row.replaced_by,
    }


async def _told_releases(session: AsyncSession, releases: Sequence[ReleaseRow]) -> list[Lineage]:
    places = await rows.places_of(session, [release.id for release in releases])
    return [
        {
            "id": row.id,
            "name": row.name,
            "alias": row.alias,
            "kind": row.kind,
            "state": row.state,
            "parent": row.parent_id,
            "dataset": row.manifest.get("dataset_id"),
            "tainted": row.tainted,
            "blocked_by": row.blocked_by,
            "serving": places[row.id].serving,
            "canary": places[row.id].canary,
            "replicas": places[row.id].replicas,
        }
        for row in releases
    ]
