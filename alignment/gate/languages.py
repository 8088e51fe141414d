"""In which languages a model is measured: English always, Chinese where its people write it. Pure."""

from collections.abc import Iterable
from typing import Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

CHINESE_SHARE = 0.1
"""Held-out pairs with at least this share of Chinese characters count as Chinese too."""
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))


def languages_of(texts: Iterable[str], wanted: Iterable[Language] = ()) -> tuple[Language, ...]:
    """English, and Chinese if it is wanted or the texts are Chinese in part."""
    return LANGUAGES if "zh" in wanted or chinese_share(texts) >= CHINESE_SHARE else ("en",)


def chinese_share(texts: Iterable[str]) -> float:
    """The share of Chinese characters among all that are not white space; 0 where there are none at all."""
    chinese = characters = 0
    for text in texts:
        for character in text:
            if not character.isspace():
                characters += 1
                chinese += any(first <= ord(character) <= last for first, last in _IDEOGRAPHS)
    return chinese / characters if characters else 0.0
