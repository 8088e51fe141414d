"""Two answers that are compared: what the item is called, which side is which, and what a verdict means. Pure.

The sides of an item are ordered by a hash, so `first` and `second` say nothing of age, release or quality. Verdicts of
several raters are compared in these terms: whatever side each of them saw it on, and with no answer favoured by its
place (see Agreement in docs/annotation.md).
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from gateway.feedback.bodies import ChoiceRef
from gateway.judging import judgement

Sides = list[dict[str, Any]]
FIRST, SECOND, TIE, BOTH_BAD = judgement.FIRST, judgement.SECOND, judgement.TIE, "both_bad"
SKIP, DISCARD, UNCLEAR = "skip", "discard", "guideline_unclear"
CHOICE_VERDICTS = (FIRST, SECOND, TIE, BOTH_BAD)
"""Verdicts that become votes."""


def item_of(one: ChoiceRef, other: ChoiceRef) -> tuple[str, Sides]:
    """The name of the item that two choices make, in whatever order, and its two sides in theirs."""
    ordered = sorted((one, other), key=lambda ref: hashlib.sha256(name_of(ref).encode()).digest())
    return "|".join(name_of(ref) for ref in ordered), [ref.model_dump() for ref in ordered]


def name_of(ref: ChoiceRef) -> str:
    """A choice in one word."""
    return f"{ref.completion_id}#{ref.index}"


def item_of_pair(pair_id: str) -> tuple[str, Sides]:
    """The item of a pair with a side that no model wrote: its chosen side comes first."""
    return pair_id, [{"pair_id": pair_id, "side": "chosen"}, {"pair_id": pair_id, "side": "rejected"}]


def ballot_of(body: Mapping[str, Any]) -> tuple[str, Sides, str] | None:
    """Item, sides and verdict of a stored preference, if it is one between exactly two choices of known completions."""
    prefers = body.get("verdict") == "prefer"
    named = [body.get("chosen"), *body.get("rejected", ())] if prefers else list(body.get("choices", ()))
    if len(named) != 2 or not all(isinstance(ref, Mapping) and "completion_id" in ref for ref in named):
        return None
    one, other = (ChoiceRef(completion_id=ref["completion_id"], index=ref.get("index", 0)) for ref in named)
    item, sides = item_of(one, other)
    if prefers:
        return item, sides, FIRST if sides[0] == one.model_dump() else SECOND
    return item, sides, str(body["verdict"])


def unmasked(verdict: str, left_first: bool) -> str:
    """What `left` or `right` was, or any other verdict as it is."""
    if verdict == "left":
        return FIRST if left_first else SECOND
    if verdict == "right":
        return SECOND if left_first else FIRST
    return verdict


def masked(verdict: str, left_first: bool) -> str:
    """`first` or `second` as the annotator saw it, or any other verdict as it is."""
    if verdict in (FIRST, SECOND):
        return "left" if (verdict == FIRST) == left_first else "right"
    return verdict


def drawn(key: bytes, text: str, share: float) -> bool:
    """Whether `text` is in a keyed random sample of this share; always the same answer."""
    return int.from_bytes(hmac.digest(key, text.encode(), hashlib.sha256)[:8]) < share * 2**64
