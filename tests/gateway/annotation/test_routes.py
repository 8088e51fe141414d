"""The annotation routes over HTTP: a task from claim to verdict, and every error in the envelope."""

from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from gateway.access.authenticate import Authenticator
from gateway.routes import admin_annotation, annotation
from gateway.routes.errors import install_error_handlers
from gateway.settings import Settings
from gateway.storage import keys
from gateway.storage.group_commit import GroupCommit
from gateway.telemetry.metrics import Metrics
from tests.gateway.annotation.office import QUIET, Office

KEYS = {"annotator": ["annotate", "feedback:write_text"], "admin": ["admin"], "silent": ["inference"]}


def as_key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer sk-{name}-0000000000000"}


@pytest.fixture
async def client(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with office.database.write() as session:
        for name, scopes in KEYS.items():
            await keys.create_key(session, "proj_1", name, scopes, as_key(name)["authorization"].split()[1])
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(annotation.router)
    app.include_router(admin_annotation.router)
    app.state.services = SimpleNamespace(
        database=office.database,
        votes=GroupCommit(office.database, "durable"),
        settings=Settings(annotation=QUIET),
        secrets=office.secrets,
        authenticator=Authenticator(office.database),
        metrics=Metrics(),
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=as_key("annotator")) as client:
        yield client
    await app.state.services.votes.close()


async def test_a_task_from_claim_to_verdict_to_history(office: Office, client: httpx.AsyncClient) -> None:
    await office.comparison("A", "B")
    task = (await client.post("/v1/annotation/claim", json={})).json()
    place = f"/v1/annotation/tasks/{task['id']}"
    renewed = (await client.post(f"{place}/renew", json={})).json()
    assert renewed["lease_expires_at"] >= task["lease_expires_at"]
    assert (await client.post(f"{place}/release", json={})).json()["lease_expires_at"] is None
    assert (await client.post(f"{place}/submit", json={"verdict": "left"})).json()["error"]["code"] == "task_not_held"
    assert (await client.post("/v1/annotation/claim", json={})).json()["id"] == task["id"]
    given = await client.post(f"{place}/submit", json={"verdict": "left", "strength": 1})
    assert given.status_code == 200
    listed = (await client.get("/v1/annotation/history")).json()
    assert listed["data"] == [given.json()]
    assert (await client.get("/v1/annotation/queue")).json()["yours"] == 1
    assert (await client.post("/v1/annotation/undo", json={})).json()["task_id"] == task["id"]
    assert (await client.get("/v1/annotation/history")).json()["data"] == []


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/annotation/claim", {}, 404, "queue_empty"),
        ("/v1/annotation/claim", {"alais": "x"}, 400, "unknown_parameter"),
        ("/v1/annotation/claim", {"alias": "\0"}, 400, "invalid_value"),
        ("/v1/annotation/claim", {"rater": {"id": "anna"}}, 403, "missing_scope"),
        ("/v1/annotation/undo", {}, 404, "nothing_to_undo"),
        ("/v1/annotation/tasks/task_none/submit", {"verdict": "left"}, 404, "task_not_found"),
        ("/v1/annotation/tasks/task_none/submit", {"verdict": "better"}, 400, "invalid_value"),
        ("/v1/annotation/tasks/task_none/submit", {"verdict": "tie", "strength": 2}, 400, "invalid_value"),
        ("/v1/annotation/tasks/task_none/submit", {"verdict": "tie", "comment": "\0"}, 400, "invalid_value"),
        ("/v1/annotation/tasks/task_none/renew", {}, 404, "task_not_found"),
        ("/v1/annotation/tasks/%00/release", {}, 400, "invalid_value"),
        ("/admin/v1/annotation/gold", {}, 403, "missing_scope"),
    ],
)
async def test_every_error_says_what_is_wrong(
    client: httpx.AsyncClient, path: str, body: dict[str, object], status: int, code: str
) -> None:
    answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


async def test_operators_make_gold_and_read_agreement(office: Office, client: httpx.AsyncClient) -> None:
    admin = as_key("admin")
    right, wrong = await office.complete("right"), await office.complete("wrong")
    body = {"better": {"completion_id": right}, "worse": {"completion_id": wrong}, "note": "checked by two doctors"}
    made = await client.post("/admin/v1/annotation/gold", json=body, headers=admin)
    assert made.status_code == 201
    assert (await client.get("/admin/v1/annotation/gold", headers=admin)).json()["data"] == [made.json()]
    gone = await client.delete(f"/admin/v1/annotation/gold/{made.json()['id']}", headers=admin)
    assert gone.json()["deleted"] is True
    report = await client.get("/admin/v1/agreement", params={"alias": "assistant"}, headers=admin)
    assert (report.json()["items"], report.json()["krippendorff_alpha"]) == (0, None)
    unknown = await client.get("/admin/v1/agreement", params={"alias": "nobody"}, headers=admin)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
