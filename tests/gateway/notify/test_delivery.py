"""What comes about is told: once, again until it is taken, and by whoever is left."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from gateway.contracts import notice
from gateway.contracts.backoff import pause_seconds
from gateway.contracts.training import TrainingOptions
from gateway.notify.notifier import LONGEST_PAUSE_SECONDS, Notifier, message_of
from gateway.notify.texts import text_of
from gateway.sections.notify import NotifySettings
from gateway.storage.database import Database
from gateway.storage.datasets import record_dataset
from gateway.storage.notification_tables import Delivery, Notification
from gateway.storage.notifications import forget_old, list_notifications, note
from gateway.storage.routing_state import reject_candidate
from gateway.storage.runs import claim_next_run, create_run, finish_run
from tests.gateway.notify.receiver import Receiver
from tests.gateway.rollout.served import Served
from tests.patience import patient

VOTE = notice.harmful_vote("assistant", "fb_1", ["rel_a"], ["harmful"])
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what no statement of its own depends on: the other tests run on each kind of database."""


def settings_of(*receivers: Receiver, **fields: Any) -> NotifySettings:
    urls = tuple(f"{receiver.url}/hook-of-somebody-{number}" for number, receiver in enumerate(receivers))
    return NotifySettings(urls=urls, **{"timeout_seconds": 1.0, "retry_seconds": 0.1} | fields)


async def note_all(database: Database, *notices: notice.Notice) -> None:
    for one in notices:
        async with database.write() as session:
            await note(session, one)


@asynccontextmanager
async def at_work(
    database: Database, settings: NotifySettings, holder: str = "gw_1"
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(Notifier(database, settings, holder, poll_seconds=0.1).run())
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until_states(database: Database, *states: str, seconds: float = 8.0) -> list[Delivery]:
    """Wait until the deliveries are in these states."""
    deadline = time.monotonic() + seconds
    while True:
        async with database.read() as session:
            found = list(await session.scalars(select(Delivery).order_by(Delivery.target)))
        if sorted(row.state for row in found) == sorted(states):
            return found
        assert time.monotonic() < deadline, [(row.state, row.detail) for row in found]
        await asyncio.sleep(0.05)


async def noted(database: Database) -> list[Notification]:
    async with database.read() as session:
        return [row for row, _ in reversed(await list_notifications(session, 100))]


async def test_a_notification_is_there_only_if_what_it_tells_of_is(database: Database) -> None:
    with suppress(RuntimeError):
        async with database.write() as session:
            await note(session, VOTE)
            raise RuntimeError
    assert await noted(database) == []


@ON_SQLITE
async def test_everybody_is_told_within_two_seconds_and_a_target_that_hangs_keeps_nobody_waiting(
    database: Database, receiver: Receiver, second: Receiver
) -> None:
    receiver.hangs = True
    settings = settings_of(receiver, second, timeout_seconds=patient(4))
    notifier = asyncio.create_task(Notifier(database, settings, "gw_1").run())
    try:
        begun = time.monotonic()
        await note_all(database, VOTE, notice.run_failed("assistant", "ftjob-1", "out of memory"))
        while len(second.bodies) < 2:
            assert time.monotonic() - begun < patient(2)
            await asyncio.sleep(0.02)
    finally:
        notifier.cancel()
    assert {message["event"] for message in second.messages} == {"harmful_vote", "run_failed"}


@ON_SQLITE
async def test_a_target_that_fails_is_asked_again_until_it_takes_the_message(
    database: Database, receiver: Receiver
) -> None:
    receiver.answers = [(500, "down"), (500, "down"), (200, "ok")]
    async with at_work(database, settings_of(receiver)):
        await note_all(database, VOTE)
        [delivery] = await until_states(database, "delivered")
    assert (delivery.attempts, delivery.detail, len(receiver.bodies)) == (3, "200 ok", 3)
    assert {message["id"] for message in receiver.messages} == {delivery.notification_id}


@ON_SQLITE
async def test_a_message_is_given_up_after_so_many_attempts(database: Database, receiver: Receiver) -> None:
    receiver.answers = [(500, f"no such hook: {receiver.url}/hook-of-somebody-0")]
    async with at_work(database, settings_of(receiver, max_attempts=2)):
        await note_all(database, VOTE)
        [delivery] = await until_states(database, "failed")
        await asyncio.sleep(0.3)
    assert (delivery.attempts, len(receiver.bodies), delivery.detail) == (2, 2, "500 no such hook: ***")


def test_pauses_double_up_to_an_hour() -> None:
    pauses = [pause_seconds(5.0, attempts, LONGEST_PAUSE_SECONDS) for attempts in (1, 2, 3, 10, 11, 40)]
    assert pauses == [5, 10, 20, 2560, 3600, 3600]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # on SQLite: test_notifications.py
async def test_what_a_killed_worker_left_is_delivered_by_another(database: Database, receiver: Receiver) -> None:
    """The first worker dies between the answer and its record: the message is sent once more, and never lost."""
    receiver.hangs = True
    settings = settings_of(receiver, timeout_seconds=0.5)
    await note_all(database, VOTE)
    first = Notifier(database, settings, "gw_1")
    await first.address(time.time())
    async with aiohttp.ClientSession() as http:
        serving = asyncio.create_task(first.serve(http, settings.everybody[0]))
        while not receiver.bodies:
            await asyncio.sleep(0.02)
        serving.cancel()  # with its lease
        with suppress(asyncio.CancelledError):
            await serving
    receiver.hangs = False
    async with at_work(database, settings, "gw_2"):
        [delivery] = await until_states(database, "delivered")
    assert len(receiver.bodies) == 2
    assert receiver.bodies[0] == receiver.bodies[1]
    assert delivery.attempts == 1


async def test_two_workers_send_a_message_once(database: Database, receiver: Receiver) -> None:
    settings = settings_of(receiver)
    async with at_work(database, settings, "gw_1"), at_work(database, settings, "gw_2"):
        await note_all(database, VOTE, *(notice.run_failed("assistant", f"ftjob-{n}", "") for n in range(4)))
        await until_states(database, *["delivered"] * 5)
        await asyncio.sleep(0.3)
    assert len(receiver.bodies) == 5


async def test_a_flood_is_listed_but_not_sent_and_other_events_still_pass(
    database: Database, receiver: Receiver
) -> None:
    votes = [notice.harmful_vote("assistant", f"fb_{number}", [], ["harmful"]) for number in range(5)]
    async with at_work(database, settings_of(receiver, per_hour=2)):
        await note_all(database, *votes, notice.run_failed("assistant", "ftjob-1", ""))
        await until_states(database, *["delivered"] * 3, *["left_out"] * 3)
    events = sorted(message["event"] for message in receiver.messages)
    assert events == ["harmful_vote", "harmful_vote", "run_failed"]


@ON_SQLITE
async def test_a_target_hears_only_of_what_it_wants(database: Database, receiver: Receiver) -> None:
    targets = [{"url": f"{receiver.url}/x", "name": "oncall", "events": ["run_failed"]}]
    settings = NotifySettings.model_validate({"targets": targets})
    async with at_work(database, settings):
        await note_all(database, VOTE, notice.run_failed("assistant", "ftjob-1", "x"))
        [delivery] = await until_states(database, "delivered")
    assert (delivery.target, [message["event"] for message in receiver.messages]) == ("oncall", ["run_failed"])


async def test_identical_alarms_are_told_once_a_day_and_counted(database: Database, served: Served) -> None:
    card = {"alarms": {"phrases": [{"phrase": "of course", "z": 7.1}], "bursts": {"r1": 90}, "one_rater_clusters": {}}}
    other = {"alarms": {"phrases": [], "bursts": {"r2": 61}, "one_rater_clusters": {}}}
    quiet = {"alarms": {"phrases": [], "bursts": {}, "one_rater_clusters": {}}}
    async with database.write() as session:
        for number, one in enumerate((card, card, other, quiet, card)):
            await record_dataset(session, f"ds_{number}", alias="assistant", location="", card=one, now=1.0)
    assert [(row.facts["dataset"], row.times) for row in await noted(database)] == [("ds_0", 3), ("ds_2", 1)]
    assert "of course" not in str([row.facts for row in await noted(database)])
    async with database.write() as session:
        for row in await session.scalars(select(Notification)):
            row.created_at -= 86_401
    async with database.write() as session:
        await record_dataset(session, "ds_5", alias="assistant", location="", card=card, now=1.0)
    assert [(row.facts["dataset"], row.times) for row in await noted(database)][-1] == ("ds_5", 1)


@ON_SQLITE
async def test_rollbacks_that_people_or_engines_cause_are_told(database: Database, served: Served) -> None:
    await served.promote("rel_a")
    await served.settle()
    await served.roll_back()
    await served.settle()
    await served.promote("rel_b")
    await served.roll_back()
    told = [(row.event, *(row.facts[name] for name in ("what", "left", "back_to"))) for row in await noted(database)]
    base = "assistant-rel_base"
    assert told == [
        ("rollback", "begun", "assistant-rel_a", base),
        ("rollback", "stopped", "assistant-rel_b", base),
    ]


@ON_SQLITE
async def test_a_release_that_no_engine_can_hold_is_told_with_the_reason(database: Database, served: Served) -> None:
    await served.promote("rel_a")
    for _ in range(2):
        await served.reconciler.step()
    async with database.write() as session:
        await reject_candidate(session, "assistant", "rel_a", "assistant-1", "out\nof memory")
    [row] = await noted(database)
    assert text_of(message_of(row)).splitlines()[:2] == [
        "[Alignway] Rolled back: `assistant` could not go over to assistant-rel_a and serves assistant-rel_base again.",
        "By assistant-1: out of memory.",
    ]


@ON_SQLITE
async def test_a_failed_run_is_told_and_a_cancelled_one_is_not(database: Database, served: Served) -> None:
    for state in ("failed", "cancelled"):
        async with database.write() as session:
            options = TrainingOptions()
            await create_run(session, alias="assistant", trigger="manual", actor="k", options=options, now=1.0)
            run = await claim_next_run(session, "aligner", 60.0, 2.0)
            assert run is not None
            await finish_run(session, run.id, "aligner", state, 3.0, error="disk full")  # type: ignore[arg-type]
    [row] = await noted(database)
    assert (row.event, row.facts["error"]) == ("run_failed", "disk full")


async def test_old_notifications_are_forgotten_with_their_deliveries(database: Database, receiver: Receiver) -> None:
    async with at_work(database, settings_of(receiver)):
        await note_all(database, VOTE)
        await until_states(database, "delivered")
    async with database.write() as session:
        await forget_old(session, time.time() + 1)
    assert await noted(database) == []
