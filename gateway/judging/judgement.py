"""What a judge is asked and what its replies come to. Pure; `endpoint.py` does the asking."""

import re
from collections.abc import Sequence
from typing import Literal

from gateway.contracts.message import Message

FIRST, SECOND, TIE = "first", "second", "tie"
UNREADABLE: Literal["unreadable"] = "unreadable"
Outcome = Literal["consistent", "inconsistent", "unreadable"]
WORDS = ("left", "right", "tie")
_PLACES = re.compile(r"\{(guideline|prompt|left|right)\}")


def question(template: str, *, guideline: str, prompt: str, left: str, right: str) -> str:
    """The template with its places filled in; what stands in a text is never taken for a place."""
    texts = {"guideline": guideline, "prompt": prompt, "left": left, "right": right}
    return _PLACES.sub(lambda place: texts[place.group(1)], template)


def prompt_text(messages: Sequence[Message]) -> str:
    """A prompt as text: who said what."""
    return "\n".join(f"{message.role}: {message.text}" for message in messages)


def read_verdict(reply: str) -> str | None:
    """`left`, `right` or `tie` if the reply is that word and nothing else, a full stop aside; otherwise None."""
    word = reply.strip().rstrip(".。").lower()
    return word if word in WORDS else None


def combined(first_left: str, second_left: str) -> tuple[Outcome, str | None]:
    """The two replies as one verdict on the item: only what holds both ways round counts.

    `first_left`: the reply while the first side stood on the left; `second_left`: that after they were swapped.
    """
    one, other = read_verdict(first_left), read_verdict(second_left)
    if one is None or other is None:
        return UNREADABLE, None
    before = {"left": FIRST, "right": SECOND}.get(one, TIE)
    after = {"left": SECOND, "right": FIRST}.get(other, TIE)
    return ("consistent", before) if before == after else ("inconsistent", None)
