"""Every route against every kind of key: nothing answers but what the table says.

A new route fails this test until somebody has decided, in the table, who may call it.
"""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from fastapi.routing import APIRoute

from gateway.access.caller import SCOPES
from gateway.app import create_app
from gateway.storage import keys
from gateway.storage.keys import KeyTerms
from tests.stack import Stack, running, stack_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_KEY = "no key needed"
WHO_MAY = {
    "POST /v1/chat/completions": "inference",
    "GET /v1/chat/completions": "inference",
    "GET /v1/chat/completions/{completion_id}": "inference",
    "POST /v1/chat/completions/{completion_id}": "inference",
    "DELETE /v1/chat/completions/{completion_id}": "inference",
    "GET /v1/chat/completions/{completion_id}/messages": "inference",
    "POST /v1/completions": "inference",
    "POST /v1/responses": "inference",
    "POST /v1/embeddings": "inference",
    "POST /v1/rerank": "inference",
    "GET /v1/models": "inference",
    "GET /v1/models/{model}": "inference",
    "POST /v1/feedback": "feedback",
    "GET /v1/feedback": "feedback:read",
    "GET /v1/feedback/{feedback_id}": "feedback:read",
    "GET /v1/feedback/{feedback_id}/lineage": "feedback:read",
    "POST /v1/feedback/{feedback_id}": "feedback",
    "DELETE /v1/feedback/{feedback_id}": "feedback",
    "POST /v1/annotation/claim": "annotate",
    "POST /v1/annotation/tasks/{task_id}/submit": "annotate",
    "POST /v1/annotation/tasks/{task_id}/renew": "annotate",
    "POST /v1/annotation/tasks/{task_id}/release": "annotate",
    "POST /v1/annotation/undo": "annotate",
    "GET /v1/annotation/history": "annotate",
    "GET /v1/annotation/queue": "annotate",
    "GET /admin/v1/annotation/gold": "admin",
    "POST /admin/v1/annotation/gold": "admin",
    "DELETE /admin/v1/annotation/gold/{gold_id}": "admin",
    "GET /admin/v1/agreement": "admin",
    "POST /v1/feedback/imports": "feedback",
    "POST /v1/files": "train",
    "GET /v1/files": "train",
    "GET /v1/files/{file_id}": "train",
    "GET /v1/files/{file_id}/content": "train",
    "DELETE /v1/files/{file_id}": "train",
    "POST /v1/fine_tuning/jobs": "train",
    "GET /v1/fine_tuning/jobs": "train",
    "GET /v1/fine_tuning/jobs/{job_id}": "train",
    "GET /v1/fine_tuning/jobs/{job_id}/events": "train",
    "GET /v1/fine_tuning/jobs/{job_id}/checkpoints": "train",
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": "train",
    "POST /v1/fine_tuning/jobs/{job_id}/pause": "train",
    "POST /v1/fine_tuning/jobs/{job_id}/resume": "train",
    "GET /admin/v1/keys": "admin",
    "POST /admin/v1/keys": "admin",
    "GET /admin/v1/keys/{key_id}": "admin",
    "DELETE /admin/v1/keys/{key_id}": "admin",
    "POST /admin/v1/keys/{key_id}/rotate": "admin",
    "GET /admin/v1/usage": "admin",
    "GET /admin/v1/audit": "admin",
    "GET /admin/v1/notifications": "admin",
    "GET /admin/v1/lineage/completions/{completion_id}": "admin",
    "GET /admin/v1/lineage/releases/{release}": "admin",
    "GET /admin/v1/lineage/datasets/{dataset_id}": "admin",
    "POST /admin/v1/erasures": "admin",
    "GET /admin/v1/erasures": "admin",
    "GET /admin/v1/erasures/{erasure_id}": "admin",
    "GET /admin/v1/retention": "admin",
    "GET /admin/v1/gates/cases": "admin",
    "POST /admin/v1/gates/cases": "admin",
    "DELETE /admin/v1/gates/cases/{case_id}": "admin",
    "GET /admin/v1/raters": "admin",
    "GET /admin/v1/raters/{id_hash}": "admin",
    "POST /admin/v1/raters/{id_hash}": "admin",
    "GET /admin/v1/users/export": "admin",
    "GET /admin/v1/aliases": "admin",
    "GET /admin/v1/aliases/{alias}": "admin",
    "POST /admin/v1/aliases/{alias}/promote": "promote",
    "POST /admin/v1/aliases/{alias}/rollback": "promote",
    "POST /admin/v1/aliases/{alias}/pause-training": "promote",
    "POST /admin/v1/aliases/{alias}/resume-training": "promote",
    "GET /admin/v1/releases": "admin",
    "GET /admin/v1/releases/{release}": "admin",
    "GET /admin/v1/releases/{release}/gates": "admin",
    "GET /admin/v1/rollouts": "admin",
    "GET /admin/v1/rollouts/{rollout_id}": "admin",
    "GET /admin/v1/replicas": "admin",
    "POST /admin/v1/retrain": "train",
    "POST /admin/v1/datasets": "train",
    "GET /admin/v1/datasets": "train",
    "GET /admin/v1/datasets/{dataset_id}": "train",
    "GET /admin/v1/runs": "train",
    "GET /admin/v1/runs/{run_id}": "train",
    "GET /admin/v1/runs/{run_id}/events": "train",
    "POST /admin/v1/runs/{run_id}/cancel": "train",
    "GET /healthz": NO_KEY,
    "GET /readyz": NO_KEY,
    "GET /metrics": NO_KEY,
}
"""Route: the scope it needs. `admin` may do everything."""
NO_GOOD = ("none", "wrong", "revoked", "expired", "rotated away")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("stack")
    async with running(stack_settings(folder)) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def headers(stack: Stack) -> dict[str, dict[str, str]]:
    """The `authorization` header of each kind of key, by name."""
    made = {"wrong": "sk-not-a-key-of-this-gateway"}
    async with stack.database.write() as session:
        project = await keys.ensure_project(session)
        for scope in SCOPES:
            _, made[scope] = await keys.create_key(session, project.id, scope, [scope])
        revoked, made["revoked"] = await keys.create_key(session, project.id, "revoked", SCOPES)
        await keys.revoke_key(session, revoked.id)
        over = KeyTerms(expires_at=time.time() - 1)
        _, made["expired"] = await keys.create_key(session, project.id, "expired", SCOPES, terms=over)
        rotated, made["rotated away"] = await keys.create_key(session, project.id, "rotated", SCOPES)
        await keys.rotate_key(session, rotated, 0.0)
    return {"none": {}} | {name: {"authorization": f"Bearer {secret}"} for name, secret in made.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def routes(stack: Stack) -> list[str]:
    _, schema = await stack.call("GET", "/openapi.json")
    return [f"{method.upper()} {path}" for path, methods in schema["paths"].items() for method in methods]


async def test_somebody_has_decided_who_may_call_each_route(routes: list[str]) -> None:
    assert sorted(routes) == sorted(WHO_MAY)


async def test_no_route_is_hidden_from_the_schema(stack: Stack, routes: list[str]) -> None:
    served = {
        f"{method} {re.sub(':path}', '}', route.path)}"
        for route in create_app(stack.settings).routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert served == set(routes)


@pytest.mark.parametrize("route", WHO_MAY)
async def test_a_route_answers_only_whom_the_table_allows(
    stack: Stack, headers: dict[str, dict[str, str]], route: str
) -> None:
    method, path = route.split(" ")
    address = stack.url + re.sub("{[a-z_]+}", "nothing-of-that-name", path)
    body = b"{}" if method == "POST" else None
    answered: set[str] = set()
    async with aiohttp.ClientSession() as session:
        for name, header in headers.items():
            sent = header | ({"content-type": "application/json"} if body else {})
            async with session.request(method, address, data=body, headers=sent) as response:
                if response.status in (401, 403):
                    code = (await response.json())["error"]["code"]
                    assert (response.status, code) == (
                        (401, "invalid_api_key") if name in NO_GOOD else (403, "missing_scope")
                    ), name
                else:
                    assert response.status < 500 or path == "/readyz", await response.text()
                    answered.add(name)
    needed = WHO_MAY[route]
    assert answered == (set(headers) if needed == NO_KEY else {needed, "admin"})
