"""Sends what was noted: a job of every gateway worker, of which one at a time works for each target, by lease.

Each target has a loop of its own, so one that hangs keeps nobody else waiting. A message is marked as delivered once
its target took it: a worker that dies in between is succeeded by one that sends it again.
"""

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from gateway.contracts.backoff import pause_seconds
from gateway.errors import DatabaseUnavailable
from gateway.notify.texts import Message
from gateway.sections.notify import NotifySettings, NotifyTarget
from gateway.storage import notifications as rows
from gateway.storage.database import Database
from gateway.storage.leases import LeaseLost, check_lease, release_lease, take_lease
from gateway.storage.notification_tables import Delivery, Notification

if TYPE_CHECKING:
    import aiohttp

POLL_SECONDS = 0.5
IDLE_SECONDS = 60.0
"""Where there is nobody to tell, nothing is in a hurry."""
LEASE_MARGIN_SECONDS = 2.0
"""A worker that was killed is succeeded this long after the longest attempt."""
LONGEST_PAUSE_SECONDS = 3600.0
FORGET_EVERY_SECONDS = 3600.0

log = structlog.get_logger(__name__)


class Notifier:
    """The job."""

    def __init__(
        self, database: Database, settings: NotifySettings, holder: str, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._database, self._settings, self._holder = database, settings, holder
        self._events = {target.label: target.events for target in settings.everybody}
        self._poll_seconds, self._forget_at = poll_seconds, 0.0
        self._address_seconds = poll_seconds if self._events else IDLE_SECONDS

    async def run(self) -> None:
        """Send until cancelled."""
        if not self._settings.everybody:
            await self._address_for_ever()
        import aiohttp  # 7 MB that a worker with nobody to tell does without

        async with aiohttp.ClientSession(trust_env=True) as http, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._address_for_ever())
            for target in self._settings.everybody:
                tasks.create_task(self._send_for_ever(http, target))

    async def address(self, now: float) -> None:
        """Say whom to tell of what is new, and forget what is old."""
        async with self._database.read() as session:
            new = await rows.any_new(session)
        if new:
            async with self._database.write() as session:
                await rows.address(session, self._events)
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY_SECONDS
            async with self._database.write("relaxed") as session:
                await rows.forget_old(session, now - self._settings.keep_days * 86_400)

    async def serve(self, http: "aiohttp.ClientSession", target: NotifyTarget) -> None:
        """Send a target what is due, if that is ours to do."""
        async with self._database.read() as session:
            waiting = await rows.due(session, target.label, time.time())
        for delivery, notification in waiting:
            epoch = await self._take_turn(target)
            if epoch is None or not await self._still_due(target, delivery):
                return
            if await self._is_flooded(target, epoch, notification.event):
                break  # what else is due is looked for anew
            await self._deliver(http, target, epoch, delivery, notification)
        if waiting:
            async with self._database.write("relaxed") as session:
                await release_lease(session, _lease(target), self._holder)

    async def _address_for_ever(self) -> None:
        while True:
            try:
                await self.address(time.time())
            except DatabaseUnavailable as error:
                log.warning("notifier_interrupted", error=error.message)
            except Exception:
                log.exception("notifier_failed")
            await asyncio.sleep(self._address_seconds)

    async def _send_for_ever(self, http: "aiohttp.ClientSession", target: NotifyTarget) -> None:
        while True:
            try:
                await self.serve(http, target)
            except (DatabaseUnavailable, LeaseLost) as error:
                log.warning("notifier_interrupted", target=target.label, error=error.message)
            except Exception as error:  # not its text: it might name the URL
                log.error("notification_not_sent", target=target.label, error=type(error).__name__)
            await asyncio.sleep(self._poll_seconds)

    async def _take_turn(self, target: NotifyTarget) -> int | None:
        seconds = self._settings.timeout_seconds + LEASE_MARGIN_SECONDS
        async with self._database.write("relaxed") as session:
            return await take_lease(session, _lease(target), self._holder, seconds, time.time())

    async def _still_due(self, target: NotifyTarget, delivery: Delivery) -> bool:
        """Whether nobody sent it between our look and our turn."""
        async with self._database.read() as session:
            row = await session.get(Delivery, (delivery.notification_id, target.label))
            return row is not None and row.state == "waiting" and row.attempts == delivery.attempts

    async def _is_flooded(self, target: NotifyTarget, epoch: int, event: str) -> bool:
        """Whether a target got so many messages about a kind of event that what waits is only listed, as of now."""
        now, label = time.time(), target.label
        async with self._database.read() as session:
            sent = await rows.delivered_since(session, label, event, now - 3600)
        if sent < self._settings.per_hour:
            return False
        async with self._database.write() as session:
            await check_lease(session, _lease(target), self._holder, epoch)
            await rows.leave_out(session, label, event, "more than notify.per_hour; only listed", now)
        log.warning("notifications_left_out", target=label, notified_of=event)
        return True

    async def _deliver(
        self,
        http: "aiohttp.ClientSession",
        target: NotifyTarget,
        epoch: int,
        delivery: Delivery,
        notification: Notification,
    ) -> None:
        from gateway.notify.sending import send

        answer = await send(http, target, message_of(notification), self._settings.timeout_seconds)
        attempts = delivery.attempts + 1
        state = "delivered" if answer.taken else self._after_failure(attempts)
        log.info("notification", id=notification.id, target=target.label, state=state, attempts=attempts)
        due_at = now = time.time()
        if state == "waiting":
            due_at += pause_seconds(self._settings.retry_seconds, attempts, LONGEST_PAUSE_SECONDS)
        async with self._database.write() as session:
            await check_lease(session, _lease(target), self._holder, epoch)
            await rows.record(session, delivery, state, answer.detail, attempts=attempts, due_at=due_at, now=now)

    def _after_failure(self, attempts: int) -> str:
        return "waiting" if attempts < self._settings.max_attempts else "failed"


def message_of(row: Notification) -> Message:
    """A notification as it is sent."""
    return Message(row.id, row.event, row.alias, row.facts, row.created_at, row.times)


def _lease(target: NotifyTarget) -> str:
    return f"notify:{target.label}"
