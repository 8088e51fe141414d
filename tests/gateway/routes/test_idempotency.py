"""A POST sent twice with one `Idempotency-Key` is done once, whichever workers it reaches."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from sqlalchemy import func, select, update

from gateway.app import create_app
from gateway.routes.idempotency import IdempotentRoute, SecretRoute
from gateway.settings import Settings
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Feedback
from gateway.storage.idempotency_tables import IdempotencyKey
from gateway.storage.tables import GatewayWorker
from tests.gateway.routes.test_feedback import as_key, build_app, client_of, furnish, preference

Workers = tuple[httpx.AsyncClient, httpx.AsyncClient]
KEY = {"idempotency-key": "vote-1"}


class Counter:
    """A route of an admin's that must not be done twice; it can be held up."""

    def __init__(self) -> None:
        self.done, self.gate = 0, asyncio.Event()
        self.gate.set()

    def routers(self) -> list[APIRouter]:
        """The route as it is, and as one whose answer holds a secret."""
        plain, secret = APIRouter(route_class=IdempotentRoute), APIRouter(route_class=SecretRoute)
        plain.post("/count", status_code=202)(self.count)
        secret.post("/secret")(self.count)
        return [plain, secret]

    async def count(self, request: Request) -> dict[str, Any]:
        await self.gate.wait()
        body = await request.json()
        if body.get("fail"):
            raise RuntimeError("broken")
        self.done += 1
        return {"done": self.done, "body": body}


@asynccontextmanager
async def worker(database: Database, worker_id: str, counter: Counter) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway worker, with a heartbeat."""
    async with database.write() as session:
        row = GatewayWorker(id=worker_id, host="h", pid=1, epoch=0, started_at=1.0, seen_at=time.time())
        await session.merge(row)
    app: FastAPI = build_app(database, worker_id=worker_id)
    for router in counter.routers():
        app.include_router(router)
    async with client_of(app) as client:
        yield client
    await app.state.services.votes.close()


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
async def workers(database: Database, counter: Counter) -> AsyncIterator[Workers]:
    await furnish(database)
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(worker(database, "gw_1", counter)),
            await stack.enter_async_context(worker(database, "gw_2", counter)),
        )


async def votes(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(Feedback)) or 0


async def test_a_vote_sent_again_is_answered_again_by_any_worker(workers: Workers, database: Database) -> None:
    first = await workers[0].post("/v1/feedback", json=preference(), headers=KEY)
    assert first.status_code == 201
    for client in workers:
        again = await client.post("/v1/feedback", json=preference(), headers=KEY)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotent-replayed"] == "true"
    assert await votes(database) == 1


async def test_the_answer_is_kept_even_if_the_vote_changed_since(workers: Workers) -> None:
    first = await workers[0].post("/v1/feedback", json=preference(), headers=KEY)
    await workers[0].post("/v1/feedback", json=preference(comment="changed"))
    assert (await workers[0].post("/v1/feedback", json=preference(), headers=KEY)).json() == first.json()


async def test_one_key_with_another_body_is_a_conflict(workers: Workers) -> None:
    await workers[0].post("/v1/feedback", json=preference(), headers=KEY)
    for path, body in (("/v1/feedback", preference(comment="other")), ("/count", preference())):
        answer = await workers[1].post(path, json=body, headers=KEY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_conflict")


async def test_keys_of_two_callers_do_not_meet(workers: Workers, database: Database) -> None:
    await workers[0].post("/v1/feedback", json=preference(), headers=KEY)
    other = await workers[0].post("/v1/feedback", json=preference(), headers=KEY | as_key("sk-narrow-000000000"))
    assert other.status_code == 201
    assert await votes(database) == 2


async def test_a_request_in_flight_is_said_to_be_so(workers: Workers, counter: Counter) -> None:
    counter.gate.clear()
    first = asyncio.create_task(workers[0].post("/count", json={"n": 1}, headers=KEY))
    await asyncio.sleep(0.2)
    for client in workers:
        answer = await client.post("/count", json={"n": 1}, headers=KEY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "in_progress")
        assert int(answer.headers["retry-after"]) >= 1
    counter.gate.set()
    assert (await first).json()["done"] == 1
    again = await workers[1].post("/count", json={"n": 1}, headers=KEY)
    assert (again.status_code, again.json(), counter.done) == (202, {"done": 1, "body": {"n": 1}}, 1)


async def test_fifty_requests_with_one_key_are_done_once(workers: Workers, database: Database) -> None:
    answers = await asyncio.gather(
        *(workers[n % 2].post("/v1/feedback", json=preference(), headers=KEY) for n in range(50))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 409} <= {"in_progress"}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert await votes(database) == 1


async def test_a_request_that_failed_may_be_sent_again_and_changed(workers: Workers, counter: Counter) -> None:
    assert (await workers[0].post("/count", json={"fail": True}, headers=KEY)).status_code == 500
    assert (await workers[0].post("/v1/feedback", json={"type": "praise"}, headers=KEY)).status_code == 400
    assert (await workers[1].post("/count", json={"n": 2}, headers=KEY)).json()["done"] == 1


async def test_what_a_killed_worker_had_in_flight_is_taken_over(workers: Workers, database: Database) -> None:
    first = await workers[0].post("/v1/feedback", json=preference(), headers=KEY)
    async with database.write() as session:  # as if the worker had been killed between its claim and its vote
        await session.execute(update(IdempotencyKey).values(status=None, reply=None))
        await session.execute(update(Feedback).values(natural_key="lost"))
    assert (await workers[1].post("/v1/feedback", json=preference(), headers=KEY)).status_code == 409
    async with database.write() as session:
        await session.execute(update(GatewayWorker).where(GatewayWorker.id == "gw_1").values(seen_at=time.time() - 11))
    again = await workers[1].post("/v1/feedback", json=preference(), headers=KEY)
    assert (again.status_code, again.json()["id"] != first.json()["id"]) == (201, True)


async def test_an_answer_is_kept_for_a_day_and_no_longer(
    workers: Workers, database: Database, counter: Counter
) -> None:
    await workers[0].post("/count", json={}, headers=KEY)
    for hours, done in ((23.9, 1), (24.1, 2)):
        async with database.write() as session:
            await session.execute(update(IdempotencyKey).values(claimed_at=time.time() - hours * 3600))
        await workers[0].post("/count", json={}, headers=KEY)
        assert counter.done == done


async def test_a_secret_is_not_kept(workers: Workers, database: Database, counter: Counter) -> None:
    await workers[0].post("/secret", json={"secret": "sk-hidden"}, headers=KEY)
    again = await workers[0].post("/secret", json={"secret": "sk-hidden"}, headers=KEY)
    assert (again.status_code, again.json()["error"]["code"], counter.done) == (409, "already_done", 1)
    async with database.read() as session:
        [row] = (await session.scalars(select(IdempotencyKey))).all()
    assert "sk-hidden" not in str(vars(row))


async def test_without_a_good_key_nothing_is_replayed(workers: Workers) -> None:
    await workers[0].post("/v1/feedback", json=preference(), headers=KEY)
    answer = await workers[0].post("/v1/feedback", json=preference(), headers=KEY | as_key("sk-unknown-00000000"))
    assert answer.status_code == 401
    too_long = {"idempotency-key": "k" * 256}
    assert (await workers[0].post("/v1/feedback", json=preference(), headers=too_long)).status_code == 400


def test_every_post_honours_the_key_but_inference_and_uploads() -> None:
    inference = {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank"}
    deaf = {
        route.path
        for route in create_app(Settings()).routes
        if isinstance(route, APIRoute) and "POST" in route.methods and not isinstance(route, IdempotentRoute)
    }
    assert deaf == inference | {"/v1/files"}
