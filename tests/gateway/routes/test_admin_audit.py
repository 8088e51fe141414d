"""What operators do is written down with it: who, what, which, before and after; secrets never."""

import json
import time

import pytest

from gateway.access import issue
from gateway.contracts.training import TrainingOptions
from gateway.storage import keys
from gateway.storage.audit import COMMAND_LINE, list_audit, write_audit
from gateway.storage.database import Database
from gateway.storage.keys import KeyTerms
from gateway.storage.runs import create_run
from gateway.storage.tables import Alias
from tests.gateway.routes.test_admin_keys import Api, api

__all__ = ["api"]


async def entries(api: Api, query: str = "") -> list[dict[str, object]]:
    status, listed = await api.call("GET", f"/audit{query}")
    assert status == 200
    found: list[dict[str, object]] = listed["data"]
    return found


async def test_the_life_of_a_key_is_told_with_who_did_what_and_no_secret(api: Api) -> None:
    _, made = await api.call("POST", "/keys", {"name": "app", "scopes": ["admin"], "requests_per_minute": 60})
    _, rotated = await api.call("POST", f"/keys/{made['id']}/rotate", {"grace": "1h"})
    await api.call("DELETE", f"/keys/{made['id']}")
    revoked, rotation, creation = await entries(api)
    assert [entry["action"] for entry in (creation, rotation, revoked)] == ["key.created", "key.rotated", "key.revoked"]
    assert {entry["subject"] for entry in (creation, rotation, revoked)} == {made["id"]}
    assert {entry["actor_name"] for entry in (creation, rotation, revoked)} == {"admin"}
    assert creation["before"] is None
    after = creation["after"]
    assert isinstance(after, dict)
    assert (after["name"], after["scopes"], after["requests_per_minute"]) == ("app", ["admin"], 60)
    assert rotation["before"]["previous_secret_works_until"] is None  # type: ignore[index]
    assert rotation["after"]["previous_secret_works_until"] is not None  # type: ignore[index]
    assert (revoked["before"]["state"], revoked["after"]["state"]) == ("active", "revoked")  # type: ignore[index]
    told = json.dumps([creation, rotation, revoked])
    for secret in (made["key"], rotated["key"]):
        assert secret not in told
        assert keys.sha256_of(secret) not in told


async def test_what_is_refused_leaves_no_entry(api: Api) -> None:
    assert (await api.call("DELETE", "/keys/key_nobody"))[0] == 404
    assert (await api.call("POST", "/keys", {"name": "app", "scopes": ["everything"]}))[0] == 400
    assert await entries(api) == []


async def test_entries_come_newest_first_in_pages_and_by_what_is_asked(database: Database) -> None:
    async with database.write() as session:
        for number in range(5):
            await write_audit(session, actor=COMMAND_LINE, action="key.created", subject=f"key_{number}")
    async with database.read() as session:
        everything = [entry.row.id for entry in await list_audit(session, 10)]
        subjects = [entry.row.subject for entry in await list_audit(session, 10)]
        assert subjects == ["key_4", "key_3", "key_2", "key_1", "key_0"]
        first = [entry.row.id for entry in await list_audit(session, 2)]
        second = [entry.row.id for entry in await list_audit(session, 10, behind=first[-1])]
        assert first + second == everything
        one = await list_audit(session, 10, subject="key_3")
        assert [(entry.row.subject, entry.actor_name) for entry in one] == [("key_3", None)]
        assert await list_audit(session, 10, action="key.revoked") == []
        assert await list_audit(session, 10, actor="key_1") == []


async def test_a_page_behind_nothing_is_refused(api: Api) -> None:
    status, body = await api.call("GET", "/audit?after=audit_none")
    assert (status, body["error"]["code"], body["error"]["param"]) == (404, "audit_entry_not_found", "after")
    assert (await api.call("GET", "/audit?limit=0"))[0] == 400


async def test_pages_say_whether_there_is_more(api: Api) -> None:
    for name in ("one", "two", "three"):
        await api.call("POST", "/keys", {"name": name})
    _, page = await api.call("GET", "/audit?limit=2")
    assert page["has_more"]
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][1]["id"])
    _, rest = await api.call("GET", f"/audit?limit=2&after={page['last_id']}")
    assert [entry["after"]["name"] for entry in page["data"] + rest["data"]] == ["three", "two", "one"]
    assert not rest["has_more"]


async def test_a_change_that_is_taken_back_takes_its_entry_with_it(database: Database) -> None:
    async def issue_and_fail() -> None:
        async with database.write() as session:
            await issue.issue_key(session, "default", "app", ["inference"], KeyTerms(), COMMAND_LINE)
            raise RuntimeError("the power goes")

    with pytest.raises(RuntimeError):
        await issue_and_fail()
    async with database.read() as session:
        assert await list_audit(session, 10) == []


async def test_a_run_that_is_cancelled_is_told_once(api: Api) -> None:
    now = time.time()
    async with api.services.database.write() as session:
        project = await keys.ensure_project(session)
        session.add(
            Alias(name="assistant", project_id=project.id, base_release_id="rel_1", serving_release_id="rel_1",
                  swap="merged", created_at=now, updated_at=now)
        )  # fmt: skip
        await session.flush()
        run = await create_run(
            session, alias="assistant", trigger="manual", actor="key_1", options=TrainingOptions(), now=now
        )
    for _ in range(2):
        assert (await api.call("POST", f"/runs/{run.id}/cancel"))[0] == 200
    (entry,) = await entries(api)
    assert (entry["action"], entry["subject"], entry["actor_name"]) == ("run.cancelled", run.id, "admin")
    assert entry["before"] == {"state": "queued", "cancel_requested": False, "pause_requested": False}
    assert entry["after"] == {"state": "cancelled", "cancel_requested": False, "pause_requested": False}
