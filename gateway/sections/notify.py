"""Settings of who is told when a release is rejected, taken back, or does harm."""

import hashlib
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from gateway.sections.section import Section

TargetKind = Literal["webhook", "slack", "feishu", "wecom", "dingtalk"]
Event = Literal["gate_failed", "rollback", "alarm", "run_failed", "harmful_vote", "engine_hung"]
EVENTS: tuple[Event, ...] = ("gate_failed", "rollback", "alarm", "run_failed", "harmful_vote", "engine_hung")
WEB = r"^https?://[^/?#\s@]+([/?#]\S*)?$"
KIND_OF_HOST: dict[str, TargetKind] = {
    "hooks.slack.com": "slack",
    "open.feishu.cn": "feishu",
    "open.larksuite.com": "feishu",
    "qyapi.weixin.qq.com": "wecom",
    "oapi.dingtalk.com": "dingtalk",
}
SIGNED = ("feishu", "dingtalk", "webhook")


class NotifyTarget(Section):
    """An address that messages are posted to, where it needs more than its URL."""

    url: str = Field(pattern=WEB, repr=False)
    """What the chat program gives for an incoming webhook, or an address of your own; `http` or `https`."""
    name: str = ""
    """What it is called in records and logs; default: its host and six digits that stand for the URL."""
    kind: TargetKind | None = None
    """The shape of its messages; default: by the host, `webhook` for one that is not known."""
    secret: str | None = Field(default=None, min_length=1, repr=False)
    """Signs messages: Feishu's and DingTalk's own way; of a `webhook`, in the header `X-Alignway-Signature`."""
    events: tuple[Event, ...] = EVENTS
    """What it is told of."""

    @model_validator(mode="after")
    def _signed_where_it_can_be(self) -> "NotifyTarget":
        if self.secret is not None and self.shape not in SIGNED:
            raise ValueError(f"{self.shape} takes no secret: its URL is the secret")
        return self

    @property
    def shape(self) -> TargetKind:
        """The kind, the default filled in."""
        return self.kind or KIND_OF_HOST.get(urlsplit(self.url).hostname or "", "webhook")

    @property
    def label(self) -> str:
        """The name, the default filled in; nothing of a secret is in it."""
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:6]
        return self.name or f"{urlsplit(self.url).hostname}-{digest}"


class NotifySettings(Section):
    """Who is told when gates reject a release, one is taken back, an answer is said to do harm, or an engine hangs."""

    urls: tuple[Annotated[str, Field(pattern=WEB)], ...] = Field(default=(), repr=False)
    """Addresses that are told everything: webhooks of Slack, Feishu, WeCom or DingTalk, or one of your own."""
    targets: tuple[NotifyTarget, ...] = ()
    harmful_tags: tuple[str, ...] = ("harmful",)
    """A vote with one of these tags is told at once."""
    timeout_seconds: PositiveFloat = 5.0
    """A target that has not answered by then is asked again later."""
    retry_seconds: PositiveFloat = 5.0
    """Time to the second attempt; doubled with each further one, up to an hour."""
    max_attempts: PositiveInt = 15
    """A message that was refused so often is given up; with the other defaults, after about five hours."""
    per_hour: PositiveInt = 60
    """Messages about one kind of event that a target gets in an hour; more are only listed."""
    keep_days: PositiveFloat = 30.0
    """How long notifications are listed."""

    @model_validator(mode="after")
    def _names_are_different(self) -> "NotifySettings":
        names = [target.label for target in self.everybody]
        if len(set(names)) != len(names):
            raise ValueError("two targets of notify have the same name or URL")
        return self

    @property
    def everybody(self) -> tuple[NotifyTarget, ...]:
        """All targets, those that are given by URL alone first."""
        return (*(NotifyTarget(url=url) for url in self.urls), *self.targets)
