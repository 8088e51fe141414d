"""A browser votes with the token of an answer, from another origin where that is allowed, and does nothing else."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.access.secrets import Secrets
from gateway.feedback.identity import user_hash
from gateway.feedback.tokens import issue
from gateway.sections.serving import ServerSettings
from gateway.settings import FeedbackSettings, Settings
from gateway.storage.database import Database
from gateway.storage.tables import ApiKey
from tests.gateway.routes.test_feedback import build_app, client_of, furnish, preference, stored

SECRETS = Secrets("root")
PAGE = "https://chat.example.com"


def token(completion_id: str, *, end_user: str = "ana", key_id: str = "key_0", ends: float = 3600.0) -> str:
    return issue(
        SECRETS,
        completion_id=completion_id,
        project_id="proj_1",
        key_id=key_id,
        end_user=end_user,
        expires_at=time.time() + ends,
    )


BOTH = ",".join(token(f"chatcmpl-{name}") for name in ("yes", "no"))


@pytest.fixture
async def page(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    await furnish(database)
    feedback = FeedbackSettings(completion_wait_seconds=0.2, votes_per_minute_per_rater=5)
    app = build_app(database, Settings(feedback=feedback, server=ServerSettings(cors_origins=(PAGE,))))
    async with client_of(app) as client:
        del client.headers["authorization"]
        yield client
    await app.state.services.votes.close()


async def test_tokens_of_both_answers_are_enough_to_compare_them(page: httpx.AsyncClient) -> None:
    reply = await page.post("/v1/feedback", json=preference(), headers={"x-alignway-vote-token": BOTH})
    assert reply.status_code == 201, reply.text
    assert reply.json()["rater"] == {"id_hash": user_hash("proj_1", "ana", SECRETS), "kind": "end_user"}
    again = await page.post("/v1/feedback", json=preference(), headers={"authorization": f"Bearer {BOTH}"})
    assert (again.status_code, again.json()["id"]) == (200, reply.json()["id"])


async def test_an_answer_without_a_token_is_an_unknown_one(page: httpx.AsyncClient, database: Database) -> None:
    one = {"x-alignway-vote-token": token("chatcmpl-yes")}
    refused = await page.post("/v1/feedback", json=preference(), headers=one)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "completion_not_stored")
    assert await stored(database) == 0


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (token("chatcmpl-yes", ends=-1), "has expired"),
        (BOTH[:-1] + ("A" if BOTH[-1] != "A" else "B"), "not one of this gateway's"),
        (token("chatcmpl-yes") + "," + token("chatcmpl-no", end_user="ben"), "different people"),
    ],
)
async def test_a_bad_token_is_told_what_to_do(page: httpx.AsyncClient, header: str, message: str) -> None:
    refused = await page.post("/v1/feedback", json=preference(), headers={"x-alignway-vote-token": header})
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_vote_token"
    assert message in refused.json()["error"]["message"]


async def test_a_token_ends_with_the_key_behind_it(page: httpx.AsyncClient, database: Database) -> None:
    async with database.write() as session:
        (await session.get_one(ApiKey, "key_0")).revoked_at = time.time()
    refused = await page.post("/v1/feedback", json=preference(), headers={"x-alignway-vote-token": BOTH})
    assert refused.status_code == 401
    assert "no longer good" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"type": "correction", "target": {"completion_id": "chatcmpl-yes"}, "message": {"content": "Perhaps."}},
        preference(rater={"id": "somebody else"}),
    ],
)
async def test_a_token_allows_neither_text_nor_other_names(page: httpx.AsyncClient, body: dict[str, Any]) -> None:
    refused = await page.post("/v1/feedback", json=body, headers={"x-alignway-vote-token": BOTH})
    assert refused.status_code == 403


async def test_a_token_reads_nothing(page: httpx.AsyncClient) -> None:
    assert (await page.get("/v1/feedback", headers={"authorization": f"Bearer {BOTH}"})).status_code == 401


async def test_a_page_of_a_named_origin_may_vote_and_no_other_may(page: httpx.AsyncClient) -> None:
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "x-alignway-vote-token"}
    allowed = await page.options("/v1/feedback", headers=ask | {"origin": PAGE})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "access-control-allow-credentials" not in allowed.headers
    assert (await page.options("/v1/feedback", headers=ask | {"origin": "https://evil.example"})).status_code == 400
    voted = await page.post("/v1/feedback", json=preference(), headers={"x-alignway-vote-token": BOTH, "origin": PAGE})
    assert voted.headers["access-control-allow-origin"] == PAGE
    elsewhere = await page.options(f"/v1/feedback/{voted.json()['id']}", headers=ask | {"origin": PAGE})
    assert "access-control-allow-origin" not in elsewhere.headers


async def test_a_rater_beyond_the_limit_is_told_when_to_come_back(page: httpx.AsyncClient) -> None:
    for _ in range(5):
        await page.post("/v1/feedback", json=preference(), headers={"x-alignway-vote-token": BOTH})
    refused = await page.post("/v1/feedback", json=preference(), headers={"x-alignway-vote-token": BOTH})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_votes")
    assert 1 <= int(refused.headers["retry-after"]) <= 12
