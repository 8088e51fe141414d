"""Tokens with which a browser votes on one answer, without an API key. Pure but for the clock that is handed in.

A token is `vote_`, what it says as base64url of JSON, a dot, and an HMAC-SHA256 of that under a key of its own derived
from the root secret, cut to 128 bits. Whoever holds it may vote on that completion until it expires, and nothing else.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import NotAuthenticated
from gateway.feedback.identity import KeyedHashes, key_hash, user_hash

PREFIX = "vote_"
HEADER = "x-alignway-vote-token"
MAX_TOKENS = 16
"""In one call: a ranking of that many completions."""
TYPES = frozenset({"preference", "rating", "ranking"})
"""What a token allows: a judgement, but no text."""
_PURPOSE = "vote-token"
_SIGNATURE_BYTES = 16


class BadVoteToken(NotAuthenticated):
    """A token that is not ours, damaged or expired."""

    code = "invalid_vote_token"


@dataclass(frozen=True)
class VoteToken:
    """Who may vote on what, and until when."""

    completion_id: str
    project_id: str
    key_id: str
    """The key that asked for the completion."""
    rater_hash: str
    expires_at: int
    """Unix seconds."""


def issue(
    hashes: KeyedHashes, *, completion_id: str, project_id: str, key_id: str, end_user: str | None, expires_at: float
) -> str:
    """A token for the end user the completion was made for, or for whoever stands behind the key."""
    rater = user_hash(project_id, end_user, hashes) if end_user else key_hash(key_id, hashes)
    said = json.dumps([completion_id, project_id, key_id, rater, int(expires_at)], separators=(",", ":")).encode()
    return PREFIX + _encoded(said) + "." + _encoded(_signature(hashes, said))


def read(hashes: KeyedHashes, token: str, now: float) -> VoteToken:
    """What a token says. Raises `BadVoteToken`, which says what to do, for one that is forged or expired."""
    said, _, signature = token.removeprefix(PREFIX).partition(".")
    try:
        content, signed = _decoded(said), _decoded(signature)
    except (binascii.Error, ValueError) as error:
        raise _damaged() from error
    if not hmac.compare_digest(signed, _signature(hashes, content)):
        raise _damaged()
    found = VoteToken(*json.loads(content))
    if now >= found.expires_at:
        raise BadVoteToken(
            "This vote token has expired. Ask the server of this page for a new answer, or let it vote with its key."
        )
    return found


def read_all(hashes: KeyedHashes, header: str, now: float) -> Sequence[VoteToken]:
    """Every token of a header, in which commas stand between them. Raises `BadVoteToken`."""
    tokens = [read(hashes, token.strip(), now) for token in header.split(",")[: MAX_TOKENS + 1]]
    if len(tokens) > MAX_TOKENS:
        raise BadVoteToken(f"A call takes at most {MAX_TOKENS} vote tokens, one for each completion it names.")
    if len({(token.project_id, token.key_id, token.rater_hash) for token in tokens}) != 1:
        raise BadVoteToken("These vote tokens belong to different people; send those of one person's answers.")
    return tokens


def _damaged() -> BadVoteToken:
    return BadVoteToken(
        f"This vote token is not one of this gateway's. Send the value of the answer's `{HEADER}` header as it came."
    )


def _signature(hashes: KeyedHashes, said: bytes) -> bytes:
    return hmac.digest(hashes.derive(_PURPOSE), said, "sha256")[:_SIGNATURE_BYTES]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encoded(data) != text:
        raise ValueError("another spelling")
    return data
