"""How each chat program wants its messages, how it wants them signed, and how it says that it took one. Pure.

Slack: https://api.slack.com/messaging/webhooks. Feishu: https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot.
WeCom: https://developer.work.weixin.qq.com/document/path/91770. DingTalk:
https://open.dingtalk.com/document/robots/custom-robot-access and .../customize-robot-security-settings.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from gateway.notify.texts import Message, text_of
from gateway.sections.notify import NotifyTarget, TargetKind

SIGNATURE_HEADER = "X-Alignway-Signature"
WECOM_BYTES = 2048
"""WeCom refuses longer texts."""


@dataclass(frozen=True)
class Posted:
    """A request that is to be made."""

    url: str = field(repr=False)
    body: bytes
    headers: Mapping[str, str] = field(repr=False)


def posted(target: NotifyTarget, message: Message, now: float) -> Posted:
    """The request that tells a target."""
    query, body = _SHAPES[target.shape](target, message, now)
    url = target.url if not query else target.url + ("&" if "?" in target.url else "?") + urlencode(query)
    encoded = json.dumps(body, ensure_ascii=False).encode()
    headers = {"content-type": "application/json; charset=utf-8"}
    if target.shape == "webhook" and target.secret is not None:
        headers[SIGNATURE_HEADER] = "sha256=" + hmac.new(target.secret.encode(), encoded, hashlib.sha256).hexdigest()
    return Posted(url, encoded, headers)


def was_taken(kind: TargetKind, status: int, answer: str) -> bool:
    """Whether the answer says that the message was taken: some say no with the status 200."""
    if not 200 <= status < 300:
        return False
    names = {"feishu": ("code", "StatusCode"), "wecom": ("errcode",), "dingtalk": ("errcode",)}.get(kind)
    if names is None:
        return True
    try:
        said = json.loads(answer)
    except ValueError:
        return False
    return isinstance(said, dict) and any(said.get(name) == 0 for name in names)


_Shape = Callable[[NotifyTarget, Message, float], tuple[dict[str, str], dict[str, Any]]]


def _webhook(target: NotifyTarget, message: Message, now: float) -> tuple[dict[str, str], dict[str, Any]]:
    return {}, {
        "id": message.id,
        "event": message.event,
        "alias": message.alias,
        "text": text_of(message),
        "facts": dict(message.facts),
        "times": message.times,
        "created_at": message.created_at,
    }


def _slack(target: NotifyTarget, message: Message, now: float) -> tuple[dict[str, str], dict[str, Any]]:
    escaped = text_of(message).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {}, {"text": escaped}


def _feishu(target: NotifyTarget, message: Message, now: float) -> tuple[dict[str, str], dict[str, Any]]:
    body: dict[str, Any] = {"msg_type": "text", "content": {"text": text_of(message)}}
    if target.secret is None:
        return {}, body
    timestamp = str(int(now))
    sign = _base64_hmac(f"{timestamp}\n{target.secret}", "")  # the text to sign is the key, and nothing is signed by it
    return {}, {"timestamp": timestamp, "sign": sign} | body


def _wecom(target: NotifyTarget, message: Message, now: float) -> tuple[dict[str, str], dict[str, Any]]:
    text = text_of(message).encode()[:WECOM_BYTES].decode(errors="ignore")
    return {}, {"msgtype": "text", "text": {"content": text}}


def _dingtalk(target: NotifyTarget, message: Message, now: float) -> tuple[dict[str, str], dict[str, Any]]:
    body = {"msgtype": "text", "text": {"content": text_of(message)}}
    if target.secret is None:
        return {}, body
    timestamp = str(int(now * 1000))
    return {"timestamp": timestamp, "sign": _base64_hmac(target.secret, f"{timestamp}\n{target.secret}")}, body


def _base64_hmac(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


_SHAPES: dict[TargetKind, _Shape] = {
    "webhook": _webhook,
    "slack": _slack,
    "feishu": _feishu,
    "wecom": _wecom,
    "dingtalk": _dingtalk,
}
