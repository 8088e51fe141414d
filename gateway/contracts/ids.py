"""Identifiers: a prefix that says what the thing is, and a ULID body, so that ids sort by time.

A ULID is 48 bits of milliseconds since 1970 and 80 random bits, in Crockford's base 32 (lowercase here).
"""

import os
import time
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]

COMPLETION = "chatcmpl-"
RESPONSE = "resp_"
TEXT_COMPLETION = "cmpl-"
PASSED = "pass_"
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


class _Entropy:
    """Random bytes of the system, asked for a few hundred ids at a time: each question costs a system call."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: a process and its copy must not use the same bytes."""
        self._bytes, self._used = b"", 0

    def bits_80(self) -> int:
        """80 random bits, never the same ones twice."""
        if self._used + 10 > len(self._bytes):
            self._bytes, self._used = os.urandom(4000), 0
        taken = self._bytes[self._used : self._used + 10]
        self._used += 10
        return int.from_bytes(taken, "big")


_entropy = _Entropy()
os.register_at_fork(after_in_child=_entropy.forget)


def ulid(at_seconds: float | None = None) -> str:
    """26 lowercase characters; sorts by `at_seconds` (default: now), to the millisecond."""
    milliseconds = int((time.time() if at_seconds is None else at_seconds) * 1000)
    value, bits = _stamp(milliseconds & (1 << 48) - 1), _entropy.bits_80()
    return value + "".join([_PAIRS[bits >> shift & 1023] for shift in (70, 60, 50, 40, 30, 20, 10, 0)])


@lru_cache(maxsize=4)
def _stamp(milliseconds: int) -> str:
    """The first ten characters."""
    return "".join([_PAIRS[milliseconds >> shift & 1023] for shift in (40, 30, 20, 10, 0)])


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
