"""Keys and usage over HTTP, on the whole application."""

import csv
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.access.caller import DEFAULT_SCOPES, Caller
from gateway.app import create_app
from gateway.services import Services
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.database import Database

ADMIN = "test-admin-key-0123456789"


class Api:
    """The application, spoken to without a socket."""

    def __init__(self, client: httpx.AsyncClient, services: Services) -> None:
        self.client, self.services = client, services

    async def call(self, method: str, path: str, body: Any = None, key: str = ADMIN) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key}"}
        response = await self.client.request(method, f"/admin/v1{path}", json=body, headers=headers)
        return response.status_code, response.json()


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    database = Database(database_url)
    async with database.write() as session:
        project = await keys.ensure_project(session)
        await keys.create_key(session, project.id, "admin", ["admin"], ADMIN)
    await database.close()
    app = create_app(Settings.model_validate({"data_dir": tmp_path, "database": {"url": database_url}}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):
        yield Api(client, app.state.services)


async def test_a_key_lives_from_its_making_to_its_end(api: Api) -> None:
    wish = {"name": "app", "scopes": ["admin"], "project": "shop", "expires_in": "30d", "requests_per_minute": 60}
    status, made = await api.call("POST", "/keys", wish | {"tokens_per_minute": 9000, "streams": 4, "images": True})
    assert status == 201
    secret = made.pop("key")
    assert secret.startswith("sk-")
    assert abs(made["expires_at"] - time.time() - 30 * 86400) < 60
    assert (made["requests_per_minute"], made["tokens_per_minute"], made["streams"]) == (60, 9000, 4)
    assert (made["name"], made["scopes"], made["images"], made["state"]) == ("app", ["admin"], True, "active")

    status, shown = await api.call("GET", f"/keys/{made['id']}", key=secret)
    assert (status, shown) == (200, made)
    status, listed = await api.call("GET", "/keys")
    assert [key["name"] for key in listed["data"]] == ["admin", "app"]
    assert listed["data"][0]["project_id"] != listed["data"][1]["project_id"]

    status, rotated = await api.call("POST", f"/keys/{made['id']}/rotate", {"grace": "0s"})
    assert status == 200
    assert rotated["key"] != secret
    status, ended = await api.call("DELETE", f"/keys/{made['id']}", key=rotated["key"])
    assert (status, ended["state"]) == (200, "revoked")
    assert ended["revoked_at"] is not None
    assert (await api.call("POST", f"/keys/{made['id']}/rotate", {}))[0] == 409
    assert (await api.call("GET", "/keys", key=rotated["key"]))[0] in (200, 401)  # within the second
    assert "key" not in shown
    assert not any("secret" in name and name != "previous_secret_works_until" for name in shown)


async def test_a_secret_is_told_to_no_cache(api: Api) -> None:
    response = await api.client.post("/admin/v1/keys", json={"name": "x"}, headers={"authorization": f"Bearer {ADMIN}"})
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["scopes"] == list(DEFAULT_SCOPES)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "x" * 101}, "name"),
    ({"name": "x", "scopes": ["root"]}, "scopes"),
    ({"name": "x", "scopes": []}, "scopes"),
    ({"name": "x", "project": " "}, "project"),
    ({"name": "x", "expires_in": "soon"}, "expires_in"),
    ({"name": "x", "expires_at": 5}, "expires_at"),
    ({"name": "x", "streams": 0}, "streams"),
    ({"name": "x", "requests_per_minute": "60"}, "requests_per_minute"),
    ({"name": "x", "tokens_per_minute": 1.5}, "tokens_per_minute"),
    ({"name": "x", "key": "sk-of-my-own-choosing"}, "key"),
]


async def test_an_impossible_key_is_refused_by_its_parameter(api: Api) -> None:
    for body, param in IMPOSSIBLE:
        status, answer = await api.call("POST", "/keys", body)
        assert (status, answer["error"]["param"]) == (400, param)
    assert len((await api.call("GET", "/keys"))[1]["data"]) == 1


async def test_no_key_mints_another_without_the_scope_admin(api: Api) -> None:
    _, weak = await api.call("POST", "/keys", {"name": "weak", "scopes": ["inference", "train", "promote"]})
    for scopes in (["inference"], ["admin"]):
        status, answer = await api.call("POST", "/keys", {"name": "more", "scopes": scopes}, key=weak["key"])
        assert (status, answer["error"]["code"]) == (403, "missing_scope")
    status, _ = await api.call("POST", f"/keys/{weak['id']}/rotate", {}, key=weak["key"])
    assert status == 403


async def test_an_unknown_key_is_a_404_that_says_so(api: Api) -> None:
    for method, path in (("GET", "/keys/key_x"), ("DELETE", "/keys/key_x"), ("POST", "/keys/key_x/rotate")):
        status, answer = await api.call(method, path)
        assert (status, answer["error"]["code"]) == (404, "key_not_found")


async def test_usage_is_told_as_json_and_as_csv(api: Api) -> None:
    _, made = await api.call("POST", "/keys", {"name": "=cmd()"})
    for user, tokens in (("ann", 5), ("ann", 6), ("bob", 100)):
        admission = api.services.limiter.try_admit(Caller(made["id"], made["project_id"], frozenset()), 0)
        assert admission is not None
        admission.settle(tokens, 1, api.services.secrets.keyed_hash("end_user", user))
    await api.services.limiter.flush_usage()

    _, by_key = await api.call("GET", "/usage")
    assert [(row["key_name"], row["requests"], row["total_tokens"]) for row in by_key["data"]] == [("=cmd()", 3, 114)]
    _, ann = await api.call("GET", f"/usage?user=ann&key={made['id']}")
    assert [(row["requests"], row["prompt_tokens"]) for row in ann["data"]] == [(2, 11)]
    _, first = await api.call("GET", "/usage?group_by=user&limit=1")
    assert (len(first["data"]), first["data"][0]["total_tokens"], first["has_more"]) == (1, 101, True)

    headers = {"authorization": f"Bearer {ADMIN}"}
    for address, accept in (("?format=csv&group_by=user&limit=1", "*/*"), ("?group_by=user", "text/csv")):
        response = await api.client.get(f"/admin/v1/usage{address}", headers=headers | {"accept": accept})
        assert response.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(response.text)))
        assert [(row["key_name"], row["total_tokens"]) for row in rows] == [("'=cmd()", "101"), ("'=cmd()", "13")]
    for wrong, param in (("month=2026-13", "month"), ("group_by=model", "group_by"), ("limit=0", "limit")):
        status, answer = await api.call("GET", f"/usage?{wrong}")
        assert (status, answer["error"]["param"]) == (400, param)
