"""The house style the demo plants: at most two sentences, and finished. Pure; knows nothing of models or HTTP.

Sentences are found by rule. Where a rule can err, it errs towards more sentences, that is against the style.
"""

import re

MAX_SENTENCES = 2

# fmt: off
_TITLES = frozenset((
    "mr", "mrs", "ms", "dr", "prof", "st", "mt", "vs", "cf", "fig", "figs", "vol", "gen", "gov", "capt", "sgt",
    "lt", "approx", "e.g", "i.e"
))
"""Never end a sentence."""
_SHORTENED = frozenset((
    "etc", "inc", "ltd", "co", "corp", "jr", "sr", "oz", "lb", "lbs", "ft", "min", "max", "tbsp", "tsp", "al",
    "est", "dept", "ave"
))
"""End one only when a capital follows."""
_STARTERS = frozenset((
    "A", "An", "And", "As", "At", "But", "For", "He", "Her", "His", "However", "I", "If", "In", "It", "Its",
    "My", "On", "She", "So", "That", "The", "Their", "Then", "There", "These", "They", "This", "Those", "To",
    "We", "What", "When", "You", "Your"
))
"""After initials (`in the U.S. It`) only these words begin a new sentence."""
# fmt: on

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CLOSERS = "\"'\u201d\u2019\u00bb)\\]*_\u300d\u300f\uff09\u3011"
_STOP = re.compile(
    rf"(?P<wide>[\u3002\uff01\uff1f]+[{_CLOSERS}]*)|(?P<mark>[.!?\u2026]+)(?P<closers>[{_CLOSERS}]*)(?=\s|$|[{_CJK}])"
)
_LAST_WORD = re.compile(r"[\w.]+$")
_MARKER_ONLY = re.compile(r"(?:^|[:;]\s)[\s*_#(]*(?:\d{1,3}|[A-Za-z])$")
_LIST_ITEM = re.compile(r"\s*(?:[-*\u2022+]|\d{1,3}[.)])\s")
_LETTERS = rf"[^\W_{_CJK}]+"
_WORD = re.compile(rf"[{_CJK}]|{_LETTERS}(?:['\u2019-]{_LETTERS}|(?<=\d)[.,]\d+)*")
_HAS_WORD = re.compile(r"[^\W_]")
_FULL_STOP = re.compile(rf"[.!?\u2026\u3002\uff01\uff1f][{_CLOSERS}]*\Z")


def split_sentences(text: str) -> list[str]:
    """The sentences of `text` in order, trimmed. A heading or a list item without a full stop is one too."""
    return [text[start:end].strip() for start, end in _sentence_spans(text)]


def first_sentences(text: str, count: int) -> str:
    """`text` up to the end of its sentence number `count`, with the line breaks it had."""
    spans = _sentence_spans(text)[:count]
    return text[: spans[-1][1]].strip() if spans else ""


def keeps_style(text: str, finish_reason: str | None) -> bool:
    """Whether this answer is not empty, has at most two sentences, and was ended by the model, not cut off."""
    return finish_reason == "stop" and 1 <= len(_sentence_spans(text)) <= MAX_SENTENCES


def ends_sentence(text: str) -> bool:
    """Whether the last thing in `text` is the end of a sentence."""
    return _FULL_STOP.search(text.rstrip()) is not None


def word_count(text: str) -> int:
    """Words; each Chinese or Japanese character counts as one."""
    return len(_WORD.findall(text))


def _sentence_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence; a piece without a letter or digit joins the sentence before it."""
    spans: list[tuple[int, int]] = []
    for start, end in _blocks(text):
        for piece_start, piece_end in _cut_block(text, start, end):
            if _HAS_WORD.search(text, piece_start, piece_end):
                spans.append((piece_start, piece_end))
            elif spans:
                spans[-1] = (spans[-1][0], piece_end)
    return spans


def _blocks(text: str) -> list[tuple[int, int]]:
    """Stretches that no sentence crosses: lines, with a line that runs on in the next one kept together."""
    blocks: list[tuple[int, int]] = []
    position = 0
    for line in text.splitlines(keepends=True):
        start, position = position, position + len(line)
        if blocks and _runs_on(text[slice(*blocks[-1])], line):
            blocks[-1] = (blocks[-1][0], position)
        else:
            blocks.append((start, position))
    return blocks


def _runs_on(before: str, line: str) -> bool:
    """Whether `line` goes on with the sentence of the line before: it starts small and that one has no end."""
    unfinished = before.strip() and not ends_sentence(before) and not before.rstrip().endswith((":", ";"))
    return bool(unfinished) and line.lstrip()[:1].islower() and _LIST_ITEM.match(line) is None


def _cut_block(text: str, start: int, end: int) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for match in _STOP.finditer(text, start, end):
        following = text[match.end() : end].lstrip()
        if match["wide"] or _ends_here(text[start : match.start()], match["mark"], match["closers"], following):
            spans.append((start, match.end()))
            start = match.end()
    return [*spans, (start, end)] if text[start:end].strip() else spans


def _ends_here(before: str, mark: str, closers: str, following: str) -> bool:
    """Whether the mark after `before` ends a sentence, `following` being what comes next in the block."""
    if not following:
        return True
    if following[0].islower() and (mark != "." or closers):
        return set(mark) <= {"!", "?"} and not closers
    if mark != "." or closers:
        return True
    return _MARKER_ONLY.search(before) is None and _full_stop_ends(before, following)


def _full_stop_ends(before: str, following: str) -> bool:
    """Whether a single full stop ends a sentence, rather than shorten a word."""
    word = _LAST_WORD.search(before)
    last = word[0] if word else ""
    if last.lower() in _TITLES:
        return False
    if last.lower() == "no":
        return not following[0].isdigit()
    if last.lower() in _SHORTENED:
        return following[0].isupper()
    if _is_initials(last):
        return re.split(r"\W", following, maxsplit=1)[0] in _STARTERS
    return True


def _is_initials(word: str) -> bool:
    """`J`, `U.S`, `p.m`: single letters, with full stops between them."""
    return all(len(part) == 1 and part.isalpha() for part in word.split(".")) if word else False
