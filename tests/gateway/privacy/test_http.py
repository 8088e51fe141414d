"""The operators' routes over the whole application: an erasure is asked for, followed, and its receipt shown."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.app import build_services, close_services
from gateway.contracts.ids import COMPLETION, mint
from gateway.routing.drain import Drain
from gateway.settings import Settings
from gateway.storage.completion_log import CompletionRow
from gateway.storage.feedback_tables import Completion
from gateway.storage.keys import ensure_project
from tests.gateway.routes.test_admin_keys import ADMIN, Api, api

__all__ = ["api"]
KEY = {"authorization": f"Bearer {ADMIN}"}


async def complete(api: Api, user: str, text: str) -> str:
    async with api.services.database.write() as session:
        row = Completion(
            id=mint(COMPLETION),
            project_id=(await ensure_project(session)).id,
            key_id="key_1",
            alias="assistant",
            release_id="rel_1",
            status="finished",
            messages=[{"role": "user", "content": "hi"}],
            parameters={},
            choices=[{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            usage={},
            end_user_hash=api.services.secrets.keyed_hash("end_user", user),
            created_at=time.time(),
            total_seconds=1.0,
            call_metadata={},
        )
        session.add(row)
    return row.id


async def done(api: Api, erasure_id: str) -> dict[str, Any]:
    for _ in range(200):
        _, shown = await api.call("GET", f"/erasures/{erasure_id}")
        if shown["state"] == "done":
            return dict(shown)
        await asyncio.sleep(0.05)
    raise AssertionError("the erasure does not end")


async def test_an_erasure_is_carried_out_by_the_gateway_and_the_users_chats_and_votes_are_404(api: Api) -> None:
    chats = [await complete(api, "amy", text) for text in ("Yes.", "No.")]
    vote = {
        "type": "preference",
        "chosen": {"completion_id": chats[0]},
        "rejected": [{"completion_id": chats[1]}],
        "rater": {"id": "amy"},
    }
    voted = (await api.client.post("/v1/feedback", json=vote, headers=KEY)).json()
    status, asked = await api.call("POST", "/erasures", {"user": "amy", "policy": "block"})
    assert (status, asked["object"], asked["policy"]) == (202, "erasure", "block")
    shown = await done(api, asked["id"])
    assert (shown["counts"]["completion"], shown["counts"]["feedback"]) == (2, 1)
    assert shown["receipt"]["ids"] == 4
    for path in (f"/v1/chat/completions/{chats[0]}", f"/v1/feedback/{voted['id']}"):
        assert (await api.client.get(path, headers=KEY)).status_code == 404
    again = await api.client.post("/v1/feedback", json=vote, headers=KEY)
    assert (again.status_code, again.json()["error"]["code"]) == (404, "completion_not_stored")
    _, listed = await api.call("GET", "/erasures?limit=1")
    assert [one["id"] for one in listed["data"]] == [asked["id"]]


async def test_what_is_wrong_with_an_erasure_is_said_in_the_envelope(api: Api) -> None:
    for body, param in (({}, "user"), ({"user": ""}, "user"), ({"user": "amy", "policy": "shred"}, "policy")):
        status, answer = await api.call("POST", "/erasures", body)
        assert (status, answer["error"]["param"]) == (400, param)
    status, answer = await api.call("POST", "/erasures", {"user": "amy", "project": "nowhere"})
    assert (status, answer["error"]["code"]) == (404, "project_not_found")
    status, answer = await api.call("GET", "/erasures/erasure_nobody")
    assert (status, answer["error"]["code"]) == (404, "erasure_not_found")


async def test_retention_is_shown_by_kind_with_its_last_run(api: Api) -> None:
    for _ in range(200):
        status, shown = await api.call("GET", "/retention")
        if shown["data"][0]["last_run_at"] is not None:
            break
        await asyncio.sleep(0.05)
    assert (status, shown["object"]) == (200, "retention")
    kept = {kind["kind"]: kind["kept_seconds"] for kind in shown["data"]}
    assert (kept["completions"], kept["voted_completions"]) == (30 * 86400, 180 * 86400)
    assert (kept["datasets"], kept["audit"]) == (90 * 86400, 365 * 86400)
    assert abs(shown["data"][0]["last_run_at"] - time.time()) < 60


@pytest.mark.parametrize(("mode", "stored"), [("before_storage", "打[PHONE_1]"), ("before_training", "打13800138000")])
async def test_before_storage_alone_redacts_what_is_recorded_of_a_chat(
    sqlite_url: str, tmp_path: Path, mode: str, stored: str
) -> None:
    settings = {"data_dir": tmp_path, "database": {"url": sqlite_url}, "privacy": {"redaction": mode}}
    services = await build_services(Settings.model_validate(settings), Drain())
    row = CompletionRow(
        id="chatcmpl-1",
        project_id="proj_1",
        key_id="key_1",
        alias="assistant",
        release_id="rel_1",
        status="finished",
        messages='[{"role":"user","content":"电话?"}]',
        parameters="{}",
        choices='[{"index":0,"message":{"role":"assistant","content":"打13800138000"},"finish_reason":"stop"}]',
        usage="{}",
        end_user_hash=None,
        created_at=time.time(),
        first_chunk_seconds=None,
        total_seconds=1.0,
        call_metadata="{}",
    )
    told = asyncio.get_running_loop().create_future()
    services.completions.write(row, told.set_result)
    assert await told
    async with services.database.read() as session:
        found = await session.get_one(Completion, "chatcmpl-1")
    await close_services(services)
    assert found.choices[0]["message"]["content"] == stored


async def test_raters_are_listed_changed_and_given_out_by_name(api: Api) -> None:
    chats = [await complete(api, "amy", text) for text in ("是。", "否。")]
    vote = {
        "type": "preference",
        "chosen": {"completion_id": chats[0]},
        "rejected": [{"completion_id": chats[1]}],
        "rater": {"id": "amy"},
    }
    assert (await api.client.post("/v1/feedback", json=vote, headers=KEY)).status_code == 201
    status, listed = await api.call("GET", "/raters")
    assert (status, len(listed["data"]), listed["has_more"]) == (200, 1, False)
    id_hash = listed["data"][0]["id"]
    status, changed = await api.call("POST", f"/raters/{id_hash}", {"blocked": True, "note": "spam"})
    assert (status, changed["blocked"], changed["pairs"]) == (200, True, {"held": 1})
    assert (await api.call("GET", f"/raters/{id_hash}"))[1] == changed
    status, answer = await api.call("POST", "/raters/r_nobody", {"blocked": True})
    assert (status, answer["error"]["code"]) == (404, "rater_not_found")
    status, document = await api.call("GET", "/users/export?user=amy")
    assert (status, [one["id"] for one in document["completions"]]) == (200, chats)
    assert document["rater_hashes"] == [id_hash]
    status, answer = await api.call("GET", "/users/export")
    assert (status, answer["error"]["param"]) == (400, "user")
