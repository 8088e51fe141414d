"""`x-request-id`: a client's own where it sent a sane one, else one of ours. It stands on every answer."""

import itertools
import os

HEADER = b"x-request-id"
MAX_CHARACTERS = 128
_PROCESS = os.urandom(8).hex().encode()
_numbers = itertools.count(1)
_SANE = frozenset(range(0x21, 0x7F))
"""Printable ASCII without the space."""


def request_id(sent: bytes | None) -> bytes:
    """What to answer to a request that came with `sent`; anything odd, empty or long is replaced."""
    if sent and len(sent) <= MAX_CHARACTERS and _SANE.issuperset(sent):
        return sent
    return b"req_%b%08x" % (_PROCESS, next(_numbers))
