"""What headers say of a chat: for whom it is, that it is a chore, and that a token to vote on it is wanted."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.contracts.ids import COMPLETION
from gateway.feedback.identity import key_hash, user_hash
from gateway.feedback.tokens import read
from gateway.relay.tally import is_stored
from gateway.storage import keys
from gateway.storage.feedback_tables import Completion
from tests.gateway.relay.served import Gateway, answers_in, chat, gateway
from tests.stack import ADMIN_KEY

USERS = {"header": "X-OpenWebUI-User-Id", "metadata_headers": {"x-openwebui-message-id": "message_id"}}


async def test_a_key_that_may_not_vote_gets_no_token_and_one_that_may_not_delegate_names_nobody(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served, httpx.AsyncClient() as client:
        async with served.services.database.write() as session:
            project = (await keys.ensure_project(session)).id
            for name, scopes in (("asks", ["inference"]), ("votes", ["inference", "feedback"])):
                await keys.create_key(session, project, name, scopes, f"sk-{name}-0000000000")
        body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "user": "ana"}
        tokens = {}
        for name in ("asks", "votes"):
            head = {"authorization": f"Bearer sk-{name}-0000000000", "x-alignway-vote-token": "request"}
            reply = await client.post(f"http://127.0.0.1:{served.port}/v1/chat/completions", json=body, headers=head)
            tokens[name] = reply.headers.get("x-alignway-vote-token")
        assert tokens["asks"] is None
        token = read(served.services.secrets, tokens["votes"] or "", time.time())
        assert token.rater_hash == key_hash(token.key_id, served.services.secrets)


async def the_record(served: Gateway, *lines: str, **fields: Any) -> Completion:
    (answer,) = await answers_in(await served.send(chat("hi", *lines, close=True, **fields)))
    assert answer.status == 200
    (record,) = [one for one in await served.records() if one.id == json.loads(answer.body)["id"]]
    return record


def hashed(served: Gateway, user: str) -> str:
    return served.services.secrets.keyed_hash("end_user", user)


async def test_a_trusted_keys_header_names_the_end_user_before_the_body_does(tmp_path: Path) -> None:
    async with gateway(tmp_path, users=USERS) as served:
        record = await the_record(served, "x-openwebui-user-id: 王芳", "x-openwebui-message-id: m1", user="proxy")
        assert record.end_user_hash == hashed(served, "王芳")
        assert record.call_metadata == {"message_id": "m1"}
        assert (await the_record(served, user="ana")).end_user_hash == hashed(served, "ana")


async def test_the_headers_of_a_key_that_may_not_delegate_are_not_read(tmp_path: Path) -> None:
    async with gateway(tmp_path, users=USERS) as served:
        async with served.services.database.write() as session:
            project = (await keys.ensure_project(session)).id
            await keys.create_key(session, project, "app", ["inference"], "sk-plain-0000000000")
        body = chat("hi", "x-openwebui-user-id: ana", "x-openwebui-message-id: m1", close=True, user="me")
        reply = await served.send(body.replace(ADMIN_KEY.encode(), b"sk-plain-0000000000"))
        assert b" 200 " in reply
        (record,) = await served.records()
        assert (record.end_user_hash, record.call_metadata) == (hashed(served, "me"), {})


async def test_without_the_setting_no_header_names_anybody(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        record = await the_record(served, "x-openwebui-user-id: ana")
        assert (record.end_user_hash, record.call_metadata) == (None, {})


async def test_a_header_marks_a_chore(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        record = await the_record(served, "x-alignway-task: title", metadata={"app": "chat"})
        assert record.call_metadata == {"app": "chat", "task": "title"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions?way=application", "/v1/responses"])
async def test_an_answer_brings_a_token_to_vote_on_it_where_one_is_asked_for(
    tmp_path: Path, path: str, stream: bool
) -> None:
    async with gateway(tmp_path, users=USERS) as served, httpx.AsyncClient() as client:
        body: dict[str, Any] = {"model": "assistant", "stream": stream}
        body |= {"input": "hi"} if path == "/v1/responses" else {"messages": [{"role": "user", "content": "hi"}]}
        head = {"authorization": f"Bearer {ADMIN_KEY}", "x-openwebui-user-id": "ana"}
        url = f"http://127.0.0.1:{served.port}{path}"
        reply = await client.post(url, json=body, headers=head | {"x-alignway-vote-token": "request"})
        assert reply.status_code == 200, reply.text
        token = read(served.services.secrets, reply.headers["x-alignway-vote-token"], time.time())
        (record,) = await served.records()
        assert token.completion_id == record.id
        assert (token.project_id, token.key_id) == (record.project_id, record.key_id)
        assert token.rater_hash == user_hash(record.project_id, "ana", served.services.secrets)
        assert 86000 < token.expires_at - time.time() <= 86400
        assert "x-alignway-vote-token" not in (await client.post(url, json=body, headers=head)).headers


@pytest.mark.parametrize(
    ("policy", "stored"),
    [
        ("always", {None: True, True: True, False: False}),
        ("on_request", {None: False, True: True, False: False}),
        ("never", {None: False, True: False, False: False}),
    ],
)
async def test_a_completion_is_stored_as_the_operator_says_unless_the_client_says_no(
    tmp_path: Path, policy: str, stored: dict[bool | None, bool]
) -> None:
    assert {asked: is_stored(asked, policy) for asked in (None, True, False)} == stored
    async with gateway(tmp_path, surface={"store": policy}) as served, httpx.AsyncClient() as client:
        head = {"authorization": f"Bearer {ADMIN_KEY}"}
        url = f"http://127.0.0.1:{served.port}/v1"
        for asked, is_kept in stored.items():
            fields: dict[str, Any] = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}
            fields |= {} if asked is None else {"store": asked}
            made = (await client.post(f"{url}/chat/completions", json=fields, headers=head)).json()["id"]
            assert made.startswith(COMPLETION)
            refs = {"chosen": {"completion_id": made}, "rejected": [{"completion_id": made, "index": 1}]}
            vote = await client.post(f"{url}/feedback", json={"type": "preference"} | refs, headers=head)
            code = vote.json()["error"]["code"]
            assert code == ("unknown_choice" if is_kept else "completion_not_stored"), (policy, asked)
