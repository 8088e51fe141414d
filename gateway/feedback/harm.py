"""Votes that say that an answer does harm: people are told at once."""

from collections.abc import Collection, Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import notice
from gateway.storage.feedback_tables import Feedback
from gateway.storage.notifications import note


async def tell_harm(session: AsyncSession, votes: Iterable[Feedback], harmful_tags: Collection[str]) -> None:
    """Have people told of those votes that stand and bear such a tag; of each vote once, however often it changes.

    harmful_tags   in lower case (`str.casefold`)
    """
    for vote in votes:
        tags = [tag.strip() for tag in vote.body.get("tags", ()) if tag.strip().casefold() in harmful_tags]
        if tags and vote.status == "active":
            releases = [str(release) for release in vote.target.get("release_ids", ())]
            await note(session, notice.harmful_vote(vote.alias or "", vote.id, releases, tags))
