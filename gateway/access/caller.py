"""Who is calling, once the key has been checked."""

from dataclasses import dataclass
from typing import NamedTuple

SCOPES = (
    "inference",
    "feedback",
    "feedback:write_text",
    "feedback:delegate",
    "feedback:read",
    "annotate",
    "train",
    "promote",
    "admin",
)
DEFAULT_SCOPES = ("inference", "feedback", "feedback:write_text", "feedback:read")
"""What a new key may do unless told otherwise."""


class KeyLimits(NamedTuple):
    """What a key may use, over all workers together; None: as much as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    streams: int | None = None
    """Requests open at once, streamed or not."""

    def or_else(self, defaults: "KeyLimits") -> "KeyLimits":
        """These limits, and those of `defaults` where there is none."""
        return KeyLimits(*(other if own is None else own for own, other in zip(self, defaults, strict=True)))


UNLIMITED = KeyLimits()


@dataclass(frozen=True)
class Caller:
    """The key behind a call. Its project bounds everything it can see."""

    key_id: str
    project_id: str
    scopes: frozenset[str]
    name: str = ""
    limits: KeyLimits = UNLIMITED
    images: bool = False
    """Whether the key may send bodies up to `server.image_body_limit_bytes`."""

    rater_hash: str | None = None
    """The rater it stands for, if it is the bearer of a vote token."""
    rateable: frozenset[str] | None = None
    """Ids of the completions that a vote token is for; None: any of the project."""

    def may(self, scope: str) -> bool:
        """Whether the key has this scope; `admin` has them all."""
        return scope in self.scopes or "admin" in self.scopes

    def may_rate(self, completion_id: str) -> bool:
        """Whether it may rate this completion, among those of its project."""
        return self.rateable is None or completion_id in self.rateable
