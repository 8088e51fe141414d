"""Identifiers: a prefix that says what the thing is, and a ULID body, so that ids sort by time.

A ULID is 48 bits of milliseconds since 1970 and 80 random bits, in Crockford's base 32 (lowercase here).
"""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

COMPLETION = "chatcmpl-"
RESPONSE = "resp_"
TEXT_COMPLETION = "cmpl-"
RERANKING = "rerank-"
FEEDBACK = "fb_"
PAIR = "pair_"
DATASET = "ds_"
RUN = "ftjob-"
RELEASE = "rel_"
ROLLOUT = "roll_"
KEY = "key_"
PROJECT = "proj_"
WORKER = "gw_"

WEIGHTS_NAME = "weights"
"""Under this model name an engine of ours serves its full weights; adapters go by `engine_name`."""


def ulid(at_seconds: float | None = None) -> str:
    """26 lowercase characters; sorts by `at_seconds` (default: now), to the millisecond."""
    milliseconds = int((time.time() if at_seconds is None else at_seconds) * 1000)
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -5, -5))


def minted_at(made: str) -> float | None:
    """When an id of ours was made, in unix seconds to the millisecond; None if it is not one."""
    body = made[-26:]
    if len(made) <= len(body) or body[0] > "7" or not set(body) <= set(_ALPHABET):
        return None
    value = 0
    for character in body:
        value = value << 5 | _ALPHABET.index(character)
    return (value >> 80) / 1000


def mint(prefix: str) -> str:
    """A new id, such as `rel_01jd...`."""
    return prefix + ulid()


def engine_name(release_id: str) -> str:
    """The name under which an engine knows a release: engines take `[a-z0-9-]` only."""
    return release_id.replace("_", "-")
