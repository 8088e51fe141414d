"""Who votes, and what makes two votes the same record."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii
from typing import Protocol

from gateway.contracts.pair import Rater
from gateway.errors import NotPermitted
from gateway.feedback.bodies import Body, ChoiceRef

WRITE_TEXT = "feedback:write_text"
DELEGATE = "feedback:delegate"
_HASH = re.compile(r"r_[0-9a-f]{16,}")


class Caller(Protocol):
    """What feedback needs to know of the key behind a call."""

    @property
    def key_id(self) -> str:
        """The key."""
        ...

    @property
    def project_id(self) -> str:
        """Its project, which bounds what it can see."""
        ...

    @property
    def rater_hash(self) -> str | None:
        """The rater whom the caller stands for, where that is settled already."""
        ...

    def may(self, scope: str) -> bool:
        """Whether the key has this scope."""
        ...

    def may_rate(self, completion_id: str) -> bool:
        """Whether it may rate this completion, among those of its project."""
        ...


class KeyedHashes(Protocol):
    """Hashes that nobody can make or turn back without this deployment's root secret."""

    def derive(self, purpose: str) -> bytes:
        """A key for one purpose."""
        ...

    def keyed_hash(self, purpose: str, text: str) -> str:
        """Hex digits that stand for `text`."""
        ...


def require_scope(caller: Caller, scope: str, why: str) -> None:
    """Raise `NotPermitted`, naming the scope, unless the caller has it."""
    if not caller.may(scope):
        raise NotPermitted(
            f"This API key lacks the scope `{scope}`, which {why} needs. "
            f"Make a key with it: `alignway keys create --scopes feedback,{scope}`."
        )


def rater_of(caller: Caller, body: Body, hashes: KeyedHashes) -> Rater:
    """The rater named in the body, where the key may name one; else the key itself."""
    if body.rater is None:
        return own_rater(caller, hashes)
    require_scope(caller, DELEGATE, "a vote in the name of another rater")
    return Rater(id_hash=user_hash(caller.project_id, body.rater.id, hashes), kind=body.rater.kind)


def own_rater(caller: Caller, hashes: KeyedHashes) -> Rater:
    """The rater that a key, or a vote token, is when it names nobody else; trusted if it might name others."""
    id_hash = caller.rater_hash or key_hash(caller.key_id, hashes)
    return Rater(id_hash=id_hash, kind="end_user", trusted=caller.may(DELEGATE))


def user_hash(project_id: str, user: str, hashes: KeyedHashes) -> str:
    """What is kept of a person whom a client names."""
    return _hash(hashes, f"user:{project_id}:{user}")


def key_hash(key_id: str, hashes: KeyedHashes) -> str:
    """What is kept of a rater of whom nothing is known but the key."""
    return _hash(hashes, f"key:{key_id}")


def hash_of_rater(hashes: KeyedHashes, project_id: str, named: str) -> str:
    """The hash behind what somebody who looks for a rater wrote: the hash itself, or the id of a person."""
    return named if _HASH.fullmatch(named) else user_hash(project_id, named, hashes)


def key_of_targets(rater: Rater, type_: str, targets: Sequence[ChoiceRef], name: str | None = None) -> str:
    """The natural key of a vote on choices: whoever votes again on the same ones changes that vote.

    `name`: the metric of a rating; an answer has one rating by each.
    """
    named = () if name is None else (f"name:{name}",)
    return _natural_key(rater, type_, *named, *sorted(f"{target.completion_id}#{target.index}" for target in targets))


def key_of_content(rater: Rater, content_hash: str, external_id: str | None) -> str:
    """The natural key of an imported pair: importing it again changes nothing."""
    return _natural_key(rater, "pair", content_hash, external_id or "")


def draw(hashes: KeyedHashes, purpose: str, text: str) -> float:
    """A number from 0 to 1 that nobody can foresee without the root secret, always the same for the same text."""
    digest = hmac.digest(hashes.derive(purpose), text.encode(), hashlib.sha256)
    return int.from_bytes(digest[:8]) / 2**64


def _natural_key(rater: Rater, type_: str, *parts: str) -> str:
    named = f"[{', '.join(map(encode_basestring_ascii, (rater.id_hash, *parts)))}]"  # as `json.dumps`, sooner
    return f"{type_}:{hashlib.sha256(named.encode()).hexdigest()[:48]}"


def _hash(hashes: KeyedHashes, text: str) -> str:
    return "r_" + hashes.keyed_hash("rater", text)
