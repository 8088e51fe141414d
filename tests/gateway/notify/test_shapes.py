"""Each chat program gets the body that its documents ask for, signed as they say."""

import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from pydantic import ValidationError

from gateway.notify.sending import send, without_secrets
from gateway.notify.shapes import posted, was_taken
from gateway.notify.texts import Message
from gateway.sections.notify import NotifySettings, NotifyTarget, TargetKind
from tests.gateway.notify.receiver import Receiver

NOW = 1_700_000_000.25
FACTS = {"feedback": "fb_1", "releases": ["rel_9"], "tags": ["harmful"]}
MESSAGE = Message("note_1", "harmful_vote", "assistant", FACTS, 1_699_999_999.5)
TEXT = """[Alignway] Harmful answer: a vote about `assistant` was tagged harmful.
The answer was written by rel_9; the vote is fb_1.
Look: alignway lineage fb_1
To take back what `assistant` serves now:
alignway releases rollback --alias assistant --reason 'harmful_vote fb_1'"""


def target(
    kind: TargetKind | None, secret: str | None = None, url: str = "https://chat.test/hook?key=k"
) -> NotifyTarget:
    return NotifyTarget(url=url, kind=kind, secret=secret)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("slack", {"text": TEXT}),
        ("feishu", {"msg_type": "text", "content": {"text": TEXT}}),
        ("wecom", {"msgtype": "text", "text": {"content": TEXT}}),
        ("dingtalk", {"msgtype": "text", "text": {"content": TEXT}}),
        (
            "webhook",
            {
                "id": "note_1",
                "event": "harmful_vote",
                "alias": "assistant",
                "text": TEXT,
                "facts": FACTS,
                "times": 1,
                "created_at": 1_699_999_999.5,
            },
        ),
    ],
)
async def test_each_kind_is_sent_exactly_its_body(receiver: Receiver, kind: TargetKind, body: object) -> None:
    receiver.answers = [(200, '{"code": 0, "errcode": 0}')]
    async with aiohttp.ClientSession() as http:
        answer = await send(http, target(kind, url=f"{receiver.url}/hook?key=k"), MESSAGE, 2.0)
    assert (answer.taken, receiver.messages, receiver.paths) == (True, [body], ["/hook?key=k"])


def test_feishu_and_dingtalk_are_signed_as_openssl_does_it() -> None:
    """printf '' | openssl dgst -sha256 -hmac $'1700000000\\nsEcReT' -binary | base64, and
    printf '1700000000250\\nsEcReT' | openssl dgst -sha256 -hmac sEcReT -binary | base64."""
    feishu = json.loads(posted(target("feishu", "sEcReT"), MESSAGE, NOW).body)
    assert (feishu["timestamp"], feishu["sign"]) == ("1700000000", "NmWQhq3gfnvfi6xTi84fo4Jjbc7j74Xg9f8SV4qduNQ=")
    query = dict(parse_qsl(urlsplit(posted(target("dingtalk", "sEcReT"), MESSAGE, 1_700_000_000.0).url).query))
    assert query == {
        "key": "k",
        "timestamp": "1700000000000",
        "sign": "7SSIOVeHM9eMshsKSckOVXif9w0w3KfrUdTgC4d36PE=",
    }


async def test_what_arrives_is_signed_for_the_moment_at_which_it_was_sent(receiver: Receiver) -> None:
    receiver.answers = [(200, '{"code": 0, "errcode": 0}')]
    async with aiohttp.ClientSession() as http:
        for kind in ("feishu", "dingtalk", "webhook"):
            await send(http, target(kind, "s", f"{receiver.url}/hook"), MESSAGE, 2.0)  # type: ignore[arg-type]
    feishu = receiver.messages[0]
    key = f"{feishu['timestamp']}\ns".encode()
    assert feishu["sign"] == base64.b64encode(hmac.digest(key, b"", "sha256")).decode()
    query = dict(parse_qsl(urlsplit(receiver.paths[1]).query))
    signed = hmac.digest(b"s", f"{query['timestamp']}\ns".encode(), "sha256")
    assert query["sign"] == base64.b64encode(signed).decode()
    assert len(query["timestamp"]) == len(feishu["timestamp"]) + 3
    digest = hmac.new(b"s", receiver.bodies[2], hashlib.sha256).hexdigest()
    assert receiver.headers[2]["X-Alignway-Signature"] == f"sha256={digest}"


def test_slack_reads_no_markup_into_what_is_said() -> None:
    facts = {"run": "ftjob-1", "error": "a < b & c > d"}
    body = json.loads(posted(target("slack"), Message("note_1", "run_failed", "a", facts, 0.0), NOW).body)
    assert "Why: a &lt; b &amp; c &gt; d." in body["text"]


def test_the_kind_follows_from_the_host_unless_it_is_said() -> None:
    hosts = {
        "https://hooks.slack.com/services/T/B/x": "slack",
        "https://open.feishu.cn/open-apis/bot/v2/hook/x": "feishu",
        "https://open.larksuite.com/open-apis/bot/v2/hook/x": "feishu",
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x": "wecom",
        "https://oapi.dingtalk.com/robot/send?access_token=x": "dingtalk",
        "http://10.0.0.7:9000/alerts": "webhook",
    }
    assert {url: NotifyTarget(url=url).shape for url in hosts} == hosts
    assert NotifyTarget(url="https://proxy.test/slack", kind="slack").shape == "slack"


@pytest.mark.parametrize(
    ("kind", "status", "answer", "taken"),
    [
        ("slack", 200, "ok", True),
        ("slack", 403, "invalid_token", False),
        ("webhook", 204, "", True),
        ("webhook", 302, "", False),
        ("feishu", 200, '{"code":0,"msg":"success"}', True),
        ("feishu", 200, '{"StatusCode":0,"StatusMessage":"success"}', True),
        ("feishu", 200, '{"code":19021,"msg":"sign match fail"}', False),
        ("wecom", 200, '{"errcode":0,"errmsg":"ok"}', True),
        ("wecom", 200, '{"errcode":93000,"errmsg":"invalid webhook url"}', False),
        ("dingtalk", 200, '{"errcode":310000,"errmsg":"sign not match"}', False),
        ("dingtalk", 200, "<html>", False),
        ("dingtalk", 200, "[]", False),
    ],
)
def test_a_refusal_is_one_even_with_the_status_200(kind: TargetKind, status: int, answer: str, taken: bool) -> None:
    assert was_taken(kind, status, answer) is taken


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers = [(302, "")]
    async with aiohttp.ClientSession() as http:
        answer = await send(http, target("webhook", url=f"{receiver.url}/hook"), MESSAGE, 2.0)
    assert (answer.taken, receiver.paths) == (False, ["/hook"])


def test_secrets_are_neither_shown_nor_part_of_a_name() -> None:
    one = target("dingtalk", "sEcReT", "https://oapi.dingtalk.com/robot/send?access_token=t0k3n-t0k3n")
    assert "t0k3n" not in repr(one) + one.label + repr(posted(one, MESSAGE, NOW))
    assert "sEcReT" not in repr(one) + repr(posted(one, MESSAGE, NOW))
    said = "no robot has the token t0k3n-t0k3n, signed by sEcReT"
    assert without_secrets(one, said) == "no robot has the token ***, signed by ***"
    assert "t0k3n" not in repr(NotifySettings(urls=("https://x.test/t0k3n",)))


def test_only_web_addresses_are_taken_and_a_secret_only_where_it_is_used() -> None:
    for url in ("file:///etc/passwd", "ftp://host/x", "https://user@host/x", "hooks.slack.com/x"):
        with pytest.raises(ValidationError):
            NotifySettings(urls=(url,))
    with pytest.raises(ValidationError, match="takes no secret"):
        NotifyTarget(url="https://hooks.slack.com/x", secret="s")
    with pytest.raises(ValidationError, match="same name"):
        NotifySettings(urls=("https://a.test/x", "https://a.test/x"))
