"""What is wrong with an answer, whatever it was asked for: nothing in it, the same over and over, cut off. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
"""A word, or a character of a script that writes none."""
GRAM = 4
MIN_GRAMS = 40
"""Shorter answers, such as a list of yes and no, may repeat themselves."""
READ_CHARACTERS = 4000
"""At the end of a text: what loops, loops to its end."""
LOOPING_SHARE = 0.5
"""Of all runs of four words, so many stood there before."""


def flaws_of(choices: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Those of `empty`, `looping` and `truncated` that hold for one of the stored choices, or for there being none."""
    found = {"empty"} if not choices else set()
    for choice in choices:
        message = choice.get("message") or {}
        text = _text(message.get("content"))
        if not text.strip() and not message.get("tool_calls") and not message.get("refusal"):
            found.add("empty")
        if loops(text):
            found.add("looping")
        if choice.get("finish_reason") == "length":
            found.add("truncated")
    return frozenset(found)


def loops(text: str) -> bool:
    """Whether most of the end of a text has been said there before."""
    words = WORD.findall(text[-READ_CHARACTERS:])
    grams = [tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)]
    return len(grams) >= MIN_GRAMS and 1 - len(set(grams)) / len(grams) >= LOOPING_SHARE


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
