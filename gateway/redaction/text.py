"""Puts placeholders where personal things stand in a text: `[EMAIL_1]` is one address, wherever it stands. Pure.

Redacting a redacted text changes nothing.
"""

import re
from collections import Counter
from collections.abc import Sequence

from gateway.redaction.addresses import find_emails, find_networks
from gateway.redaction.finding import Detector, found_by
from gateway.redaction.numbers import (
    find_accounts,
    find_cards,
    find_ibans,
    find_phones,
    find_plates,
    find_records,
    find_resident_ids,
)
from gateway.redaction.secrets import find_secrets

BUILT_IN: tuple[Detector, ...] = (
    find_secrets,
    find_emails,
    find_ibans,
    find_resident_ids,
    find_records,
    find_accounts,
    find_cards,
    find_phones,
    find_plates,
    find_networks,
)
"""Where two find the same characters, the earlier one names them."""
MAX_PASSES = 8
"""What stood too close to a thing to be one itself may show once that is gone; this is more often than texts need."""

_PLACEHOLDER = re.compile(r"\[([A-Z][A-Z_]{0,40})_([0-9]{1,6})\]")
# Full-width letters, digits and signs are their plain ones, one for one, so places in a text stay the same.
_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_UNSPELT = re.compile(r"[\s().·•・-]")


class Redactor:
    """The placeholders of one pair, completion or vote: one thing has one placeholder in all its texts."""

    def __init__(self, extra: Sequence[Detector] = ()) -> None:
        """`extra`: detectors besides the built-in ones, asked after them."""
        self.counts: Counter[str] = Counter()
        """How many things of each kind were taken out, each place counted."""
        self._detectors = (*BUILT_IN, *extra)
        self._placeholders: dict[tuple[str, str], str] = {}
        self._last: Counter[str] = Counter()

    def reserve(self, text: str) -> None:
        """Do not give the placeholders that stand in a text to other things; for all texts, before any is redacted."""
        if "[" in text:
            for kind, number in _PLACEHOLDER.findall(text):
                self._last[kind] = max(self._last[kind], int(number))

    def redact(self, text: str) -> str:
        """The text with placeholders."""
        for _ in range(MAX_PASSES):
            redacted = self._pass(text)
            if redacted == text:
                break
            text = redacted
        return text

    def _pass(self, text: str) -> str:
        narrow = text.translate(_NARROW)
        findings = found_by(self._detectors, narrow)
        if not findings:
            return text
        parts, at = [], 0
        for start, end, kind in findings:
            self.counts[kind] += 1
            parts += [text[at:start], self._placeholder(kind, narrow[start:end])]
            at = end
        return "".join([*parts, text[at:]])

    def _placeholder(self, kind: str, found: str) -> str:
        """`13800138000` and `138-0013-8000` are one number, `A@b.c` and `a@b.c` one address."""
        spelt = found if kind == "SECRET" else _compact(kind, found)
        known = self._placeholders.get((kind, spelt))
        if known is None:
            self._last[kind] += 1
            known = self._placeholders[kind, spelt] = f"[{kind}_{self._last[kind]}]"
        return known


def _compact(kind: str, found: str) -> str:
    if kind in ("EMAIL", "IP"):
        return found.lower()
    compact = _UNSPELT.sub("", found).lower()
    return re.sub(r"\A(?:\+|00)86(?=1[0-9]{10}\Z)", "", compact) if kind == "PHONE" else compact
