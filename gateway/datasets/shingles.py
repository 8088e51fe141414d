"""When do two prompts nearly say the same? Sets of shingles and their overlap. Pure.

Instructions to the model (system, developer) are left out: where every prompt begins with the same long one, all of
them would be near-duplicates.
"""

import re
import unicodedata
from collections.abc import Hashable, Sequence, Set
from typing import Protocol

WORDS = 5
"""Length of a shingle, in words; in characters where a text is written without spaces."""
NEAR = 0.8
"""From this overlap on two prompts are near-duplicates (Jaccard: shared shingles by all shingles)."""
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_ASCII = bytes(ord(" " if re.match(r"\W", chr(code)) else chr(code).lower()) for code in range(128)).ljust(256)
"""Lower case for upper, and a space for what is no part of a word."""


class Said(Protocol):
    """Some message."""

    @property
    def role(self) -> str: ...

    @property
    def text(self) -> str: ...


def prompt_text(messages: Sequence[Said]) -> str:
    """What people and tools said in a prompt, turn by turn; all of it where nobody else spoke."""
    said = [message.text for message in messages if message.role not in ("system", "developer")]
    return "\n".join(said or [message.text for message in messages])


def tokens(text: str) -> list[str]:
    """Words in lower case; Chinese, Japanese and Korean by the character. Punctuation and spaces count for nothing."""
    if text.isascii():  # the same in less than half the time
        return text.encode().translate(_ASCII).decode().split()
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())


def shingles(text: str) -> set[str]:
    """Every run of `WORDS` tokens; a text shorter than that is one shingle."""
    found = tokens(text)
    if len(found) <= WORDS:
        return {" ".join(found)}
    return set(map(" ".join, zip(*(found[first:] for first in range(WORDS)), strict=False)))


def overlap(one: Set[Hashable], other: Set[Hashable]) -> float:
    """Jaccard's index, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def are_near(one: str, other: str) -> bool:
    """Whether two texts are near-duplicates."""
    return overlap(shingles(one), shingles(other)) >= NEAR
