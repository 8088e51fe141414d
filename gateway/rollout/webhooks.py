"""Tells a receiver that a run has ended: one gateway worker at a time, by lease, empties the outbox.

At least once: whoever gets an event twice knows it by `webhook-id`. Signatures are those of Standard Webhooks, which
`client.webhooks.unwrap` of OpenAI's SDK verifies.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

import aiohttp
import structlog

from gateway.contracts.backoff import pause_seconds
from gateway.errors import DatabaseUnavailable
from gateway.sections.webhooks import PREFIX, WebhookSettings
from gateway.storage.database import Database
from gateway.storage.leases import release_lease, take_lease
from gateway.storage.webhook_tables import WebhookDelivery
from gateway.storage.webhooks import due_deliveries, note_attempt

LEASE = "webhooks"
LEASE_SECONDS = 30.0
POLL_SECONDS = 1.0
AT_A_TIME = 20
LONGEST_PAUSE_SECONDS = 3600.0
GONE = 410
"""The receiver wants no more of this event."""

log = structlog.get_logger(__name__)


def signature(secret: str, event_id: str, timestamp: int, body: str) -> str:
    """The header `webhook-signature` of a body."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = hmac.digest(key, f"{event_id}.{timestamp}.{body}".encode(), hashlib.sha256)
    return "v1," + base64.b64encode(signed).decode()


def payload(delivery: WebhookDelivery) -> str:
    """The event as OpenAI sends it: which job it is about, and nothing of what the job holds."""
    event = {
        "id": delivery.id,
        "object": "event",
        "created_at": int(delivery.created_at),
        "type": delivery.type,
        "data": {"id": delivery.run_id},
    }
    return json.dumps(event, separators=(",", ":"))


def next_attempt(settings: WebhookSettings, created_at: float, attempts: int, now: float) -> float | None:
    """When to try again after so many attempts that failed; None gives the event up."""
    at = now + pause_seconds(settings.first_retry_seconds, attempts, LONGEST_PAUSE_SECONDS)
    return at if at - created_at <= settings.give_up_seconds else None


@dataclass(frozen=True)
class _Failure:
    """Why an attempt failed, and whether another one could help."""

    reason: str
    final: bool = False


class WebhookSender:
    """Posts what is due to the one receiver there is."""

    def __init__(self, database: Database, settings: WebhookSettings, holder: str) -> None:
        self._database, self._settings, self._holder = database, settings, holder

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                sent = 0
                try:
                    sent = await self.step(time.time())
                except DatabaseUnavailable as error:
                    log.warning("webhooks_interrupted", error=error.message)
                except Exception:  # one bad event must not end what tells of all the others
                    log.exception("webhooks_failed")
                if sent < AT_A_TIME:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            async with self._database.write("relaxed") as session:
                await release_lease(session, LEASE, self._holder)

    async def step(self, now: float) -> int:
        """Send some of what is due, if the lease is ours; how many were tried."""
        lease_seconds = LEASE_SECONDS + 2 * self._settings.timeout_seconds
        async with self._database.write("relaxed") as session:
            if await take_lease(session, LEASE, self._holder, lease_seconds, now) is None:
                return 0
            due = await due_deliveries(session, now, AT_A_TIME)
        if not due:
            return 0
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            await asyncio.gather(*(self._deliver(http, delivery, now) for delivery in due))
        return len(due)

    async def _deliver(self, http: aiohttp.ClientSession, delivery: WebhookDelivery, now: float) -> None:
        late = now - delivery.created_at > self._settings.give_up_seconds
        failure = _Failure("too late to be news", final=True) if late else await self._post(http, delivery)
        error = next_at = None
        if failure is not None:
            error = failure.reason
            if not failure.final:
                next_at = next_attempt(self._settings, delivery.created_at, delivery.attempts + 1, now)
            log.warning("webhook_not_delivered", event_id=delivery.id, reason=error, given_up=next_at is None)
        async with self._database.write() as session:
            await note_attempt(session, delivery.id, now, error=error, next_at=next_at)

    async def _post(self, http: aiohttp.ClientSession, delivery: WebhookDelivery) -> _Failure | None:
        body, timestamp = payload(delivery), int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._settings.secret or "", delivery.id, timestamp, body),
        }
        url = self._settings.url or ""
        try:
            async with http.post(url, data=body.encode(), headers=headers, allow_redirects=False) as answer:
                if 200 <= answer.status < 300:
                    return None
                return _Failure(f"status {answer.status}", final=answer.status == GONE)
        except (aiohttp.ClientError, TimeoutError) as error:
            return _Failure(f"{type(error).__name__}: {error}")
