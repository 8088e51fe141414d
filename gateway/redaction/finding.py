"""What a detector finds in a text: a stretch of it, and of which kind it is."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    """Characters `start` to `end` of a text are a thing of this kind."""

    start: int
    end: int
    kind: str
    """In capitals, as the placeholder names it: EMAIL, PHONE, ..."""


Detector = Callable[[str], Iterable[Finding]]
"""Finds things in a text; it never raises, and its time grows with the length of the text, no faster."""


def without_overlaps(findings: Iterable[Finding], length: int) -> list[Finding]:
    """Those findings that no earlier one overlaps, in the order of the text. The first detectors have precedence."""
    taken, kept = bytearray(length), []
    for finding in findings:
        start, end = finding.start, finding.end
        if start < end and 1 not in taken[start:end]:
            taken[start:end] = b"\1" * (end - start)
            kept.append(finding)
    return sorted(kept)


def found_by(detectors: Sequence[Detector], text: str) -> list[Finding]:
    """What the detectors find in a text, without overlaps."""
    return without_overlaps((finding for detector in detectors for finding in detector(text)), len(text))
