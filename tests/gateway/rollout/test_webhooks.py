"""Ends of runs reach a receiver on loopback, which checks them with the openai SDK's own verifier."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import openai
import pytest
from aiohttp import web
from pydantic import ValidationError
from sqlalchemy import select

from gateway.contracts.training import TrainingOptions
from gateway.rollout.webhooks import WebhookSender, next_attempt, signature
from gateway.sections.webhooks import WebhookSettings
from gateway.storage.database import Database
from gateway.storage.runs import create_run, request_cancel
from gateway.storage.webhook_tables import WebhookDelivery
from tests.gateway.rollout.served import Served
from tests.loopback import listening

SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtMDEy"
OTHER = "whsec_b3RoZXItLW90aGVyLS1vdGhlci0tMDEy"


@dataclass
class Receiver:
    """Answers with the next of `statuses`, then with 200; keeps what came."""

    statuses: list[int] = field(default_factory=list)
    got: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        self.got.append(((await request.text()), dict(request.headers)))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[tuple[Receiver, WebhookSettings]]:
    receiver, app = Receiver(list(statuses)), web.Application()
    app.router.add_post("/hook", receiver.receive)
    async with listening(app) as address:
        yield receiver, WebhookSettings(url=f"{address}/hook", secret=SECRET)


async def end_a_run(database: Database, now: float) -> str:
    async with database.write() as session:
        run = await create_run(
            session, alias="assistant", trigger="manual", actor="k", options=TrainingOptions(), now=now
        )
        await request_cancel(session, run, now)
        return run.id


async def the_delivery(database: Database) -> WebhookDelivery:
    async with database.read() as session:
        (row,) = await session.scalars(select(WebhookDelivery))
    return row


async def test_the_sdk_unwraps_what_a_receiver_gets(database: Database, served: Served) -> None:
    now = time.time()
    run_id = await end_a_run(database, now)
    client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
    async with receiving() as (receiver, settings):
        assert await WebhookSender(database, settings, "gw_1").step(now) == 1
        assert await WebhookSender(database, settings, "gw_1").step(now + 10) == 0
    ((body, headers),) = receiver.got
    event = client.webhooks.unwrap(body, headers)
    assert event.type == "fine_tuning.job.cancelled"
    assert (event.data.id, event.created_at) == (run_id, int(now))
    assert headers["webhook-id"] == event.id
    delivery = await the_delivery(database)
    assert (delivery.attempts, delivery.delivered_at, delivery.next_at, delivery.error) == (1, now, None, None)
    for wrong in (body.replace("cancelled", "succeeded"), body + " "):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(wrong, headers)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(body, headers, secret=OTHER)


async def test_an_event_is_sent_again_under_the_same_id_until_it_is_taken(database: Database, served: Served) -> None:
    now = time.time()
    await end_a_run(database, now)
    async with receiving(500, 302) as (receiver, settings):
        sender = WebhookSender(database, settings, "gw_1")
        assert [await sender.step(now + wait) for wait in (0, 4.9, 5.1, 15.0, 15.2, 60.0)] == [1, 0, 1, 0, 1, 0]
    assert len({headers["webhook-id"] for _, headers in receiver.got}) == 1
    delivery = await the_delivery(database)
    assert (delivery.attempts, delivery.error) == (3, None)


async def test_who_says_gone_is_told_no_more_and_old_news_is_never_sent(database: Database, served: Served) -> None:
    now = time.time()
    await end_a_run(database, now)
    async with receiving(410) as (receiver, settings):
        sender = WebhookSender(database, settings, "gw_1")
        await sender.step(now)
        gone = await the_delivery(database)
        assert (gone.error, gone.next_at, gone.delivered_at) == ("status 410", None, None)
        await end_a_run(database, now - 86401)
        assert await sender.step(now) == 1
        assert await sender.step(now + 1e6) == 0
    assert len(receiver.got) == 1


async def test_one_worker_at_a_time_sends(database: Database, served: Served) -> None:
    now = time.time()
    async with receiving() as (receiver, settings):
        await WebhookSender(database, settings, "gw_1").step(now)
        await end_a_run(database, now)
        assert await WebhookSender(database, settings, "gw_2").step(now + 1) == 0
        assert await WebhookSender(database, settings, "gw_2").step(now + 51) == 1
    assert len(receiver.got) == 1


async def test_a_receiver_that_is_away_is_tried_later(database: Database, served: Served) -> None:
    now = time.time()
    await end_a_run(database, now)
    settings = WebhookSettings(url="http://127.0.0.1:9/hook", secret=SECRET)
    assert await WebhookSender(database, settings, "gw_1").step(now) == 1
    delivery = await the_delivery(database)
    assert delivery.next_at == now + 5
    assert "Connect" in (delivery.error or "")


def test_pauses_double_up_to_an_hour_and_end_after_a_day() -> None:
    settings = WebhookSettings()
    pauses = [(next_attempt(settings, 0.0, attempts, 0.0) or 0.0) for attempts in (1, 2, 3, 4, 11, 500)]
    assert pauses == [5, 10, 20, 40, 3600, 3600]
    assert next_attempt(settings, 0.0, 1, 86395.0) == 86400.0
    assert next_attempt(settings, 0.0, 1, 86395.1) is None


def test_a_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's own libraries.
    found = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}'
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "https://example.org/hook"},
        {"url": "ftp://example.org", "secret": SECRET},
        {"secret": "whsec_short"},
        {"secret": SECRET.removeprefix("whsec_")},
    ],
)
def test_settings_that_nobody_could_verify_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        WebhookSettings.model_validate(wrong)
