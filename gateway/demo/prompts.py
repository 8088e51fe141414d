"""The demo's own prompts, cut once and for all into those that teach and those asked only to measure."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

UNSEEN_COUNT = 80


@dataclass(frozen=True)
class Prompts:
    """Two disjoint lists: the annotator judges answers to `teaching` alone, the report is made from `unseen`."""

    teaching: tuple[str, ...]
    unseen: tuple[str, ...]


@cache
def load_prompts() -> Prompts:
    """All prompts in an order that depends on their texts alone, so a prompt added later moves no other across."""
    text = resources.files("gateway.demo").joinpath("prompts_en.txt").read_text(encoding="utf-8")
    ordered = sorted(text.splitlines(), key=lambda prompt: hashlib.sha256(prompt.encode()).digest())
    return Prompts(teaching=tuple(ordered[UNSEEN_COUNT:]), unseen=tuple(ordered[:UNSEEN_COUNT]))
