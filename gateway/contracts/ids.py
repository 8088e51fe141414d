"""Identifiers: a prefix that says what the thing is, and a ULID body, so that ids sort by time.

A ULID is 48 bits of milliseconds since 1970 and 80 random bits, in Crockford's base 32 (lowercase here).
"""

import os
import time
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM = "".join(_ALPHABET[byte & 31] for byte in range(256)).encode()
"""One character for each byte, each for eight of them."""

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
AUDIT = "audit_"
TASK = "task_"
VERDICT = "verdict_"
GOLD = "gold_"
ERASURE = "erasure_"
FILE = "file-"
NOTIFICATION = "note_"
EVENT = "evt_"
GATE_CASE = "case_"

WEIGHTS_NAME = "weights"
"""Under this model name an engine of ours serves its full weights; adapters go by `engine_name`."""


class _Entropy:
    """Random characters, asked of the system for a few hundred ids at a time: each question costs a system call."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: a process and its copy must not use the same characters."""
        self._characters, self._used = "", 0

    def characters(self) -> str:
        """16 random characters, 80 bits, never the same ones twice."""
        used = self._used
        if used == len(self._characters):
            self._characters, used = os.urandom(4096).translate(_RANDOM).decode(), 0
        self._used = used + 16
        return self._characters[used : used + 16]


_entropy = _Entropy()
os.register_at_fork(after_in_child=_entropy.forget)


def ulid(at_seconds: float | None = None) -> str:
    """26 lowercase characters; sorts by `at_seconds` (default: now), to the millisecond."""
    milliseconds = int((time.time() if at_seconds is None else at_seconds) * 1000)
    return _stamp(milliseconds & (1 << 48) - 1) + _entropy.characters()


@lru_cache(maxsize=4)
def _stamp(milliseconds: int) -> str:
    """The first ten characters."""
    return "".join([_ALPHABET[milliseconds >> shift & 31] for shift in range(45, -1, -5)])


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
