"""Of which votes people are told, and what is left of that when their voter is erased."""

from pathlib import Path
from typing import Any

import pytest

from gateway.feedback.capture import FeedbackCapture
from gateway.settings import FeedbackSettings
from gateway.storage.database import Database
from gateway.storage.notification_tables import Delivery, Notification
from gateway.storage.notifications import address, list_notifications
from tests.gateway.privacy.conftest import DELEGATE, Place


@pytest.fixture
async def place(database: Database, tmp_path: Path) -> Place:
    place = Place(database, tmp_path / "store")
    await place.prepare()
    return place


async def told(place: Place) -> list[dict[str, Any]]:
    async with place.database.read() as session:
        return [dict(row.facts) for row, _ in reversed(await list_notifications(session, 100))]


async def test_a_vote_is_told_once_however_often_it_is_sent_and_changed(place: Place) -> None:
    good, bad = await place.complete(None, "Yes."), await place.complete(None, "No.")
    await place.prefer("amy", good, bad, tags=["rude"])
    assert await told(place) == []
    vote = await place.prefer("bob", good, bad, tags=["rude", " HARMFUL "], comment="my name is Bob")
    await place.prefer("bob", good, bad, tags=["rude", " HARMFUL "], comment="my name is Bob")
    await place.prefer("bob", bad, good, tags=["harmful"])
    facts = {"feedback": vote, "releases": ["rel_base", "rel_base"], "tags": ["HARMFUL"]}
    assert await told(place) == [facts]


async def test_a_tag_that_is_added_later_is_told_too(place: Place) -> None:
    vote = await place.prefer("amy", await place.complete(None, "Yes."), await place.complete(None, "No."))
    async with place.database.write() as session:
        capture = FeedbackCapture(FeedbackSettings(), place.secrets, harmful_tags=("unsafe",))
        await capture.update(session, DELEGATE, vote, {"tags": ["unsafe"]})
    assert [facts["tags"] for facts in await told(place)] == [["unsafe"]]


async def test_who_is_erased_is_in_no_notification_any_more(place: Place) -> None:
    for user in ("amy", "bob"):
        answers = [await place.complete(user, text) for text in ("Yes.", "No.")]
        await place.prefer(user, *answers, tags=["harmful"])
    async with place.database.write() as session:
        await address(session, {"on-call": ["harmful_vote"]})
    await place.erase("amy")
    assert (len(await place.rows(Notification)), len(await place.rows(Delivery))) == (1, 1)
