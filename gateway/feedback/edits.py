"""How large an edit is, and whether it touches a fact. Pure."""

import re
from collections import Counter
from collections.abc import Sequence

from gateway.contracts.prompt import normal_text

LONGEST_COMPARED = 10_000
"""An edit that spreads over more characters than this is no typo, and is not measured."""

_WORD = re.compile(r"[^\W\d_㐀-鿿]+(?:['’][^\W\d_]+)?|\d+(?:[.,:/]\d+)*|[㐀-鿿]|[%‰°℃℉$€£¥µ]", re.UNICODE)


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEGATIONS = _listed(
    "no not never none nobody nothing nowhere neither nor without cannot "
    "nicht kein keine nie ne pas jamais sin nunca não 不 没 沒 無 无 非 未 勿 莫 否 别 別 禁 忌"
)
_UNITS = _listed(
    "% ‰ ° ℃ ℉ $ € £ ¥ g kg mg µg mcg ng lb lbs oz m km cm mm µm nm mi ft yd l ml dl µl gal sec min h hr "
    "ms day days week weeks month months year years hour hours minute minutes second seconds hz khz mhz ghz w kw mw "
    "kwh mv ma kj kcal cal kpa mpa bar psi mol mmol iu kb mb gb tb percent degree degrees dollar dollars euro "
    "euros meter meters metre metres gram grams mile miles 克 毫 微 纳 千 公 斤 两 吨 噸 里 米 升 瓦 伏 帕 "
    "年 月 周 週 日 天 时 時 分 秒 度 元 角 倍 片 粒 滴"
)
_NUMBER_WORDS = _listed(
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy "
    "eighty ninety hundred thousand million billion half twice "
    "零 〇 一 二 三 四 五 六 七 八 九 十 百 万 萬 亿 億 半 两 兩 壹 贰 叁 肆 伍 陆 柒 捌 玖 拾 佰 仟"
)
_FACTS = _NEGATIONS | _UNITS | _NUMBER_WORDS


def edit_share(original: str, edited: str) -> float:
    """How much was changed, from 0 (nothing) to 1: the edit distance as a share of the longer text."""
    a, b = normal_text(original), normal_text(edited)
    return edit_distance(a, b) / max(len(a), len(b), 1)


def touches_fact(original: str, edited: str, names: Sequence[str] = ()) -> bool:
    """Whether a number, a unit, a negation or one of the `names` is among what was added or taken out."""
    before, after = Counter(_words(original)), Counter(_words(edited))
    changed = (before - after) + (after - before)
    if any(word in _FACTS or word[0].isdigit() or word.endswith(("n't", "n’t")) for word in changed):
        return True
    a, b = normal_text(original).casefold(), normal_text(edited).casefold()
    return any(a.count(name.casefold()) != b.count(name.casefold()) for name in names)


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance; for edits spread over more than `LONGEST_COMPARED` characters, their extent instead."""
    a, b = _without_common_ends(a, b)
    if len(a) > len(b):
        a, b = b, a
    if not a or len(b) > LONGEST_COMPARED:
        return len(b)
    return _bit_parallel_distance(a, b)


def _bit_parallel_distance(a: str, b: str) -> int:
    """Hyyrö 2003: one column of the table per character of `b`, as differences between neighbours, one bit each."""
    positions: dict[str, int] = {}
    for index, character in enumerate(a):
        positions[character] = positions.get(character, 0) | 1 << index
    full, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    plus, minus, distance = full, 0, len(a)
    for character in b:
        match = positions.get(character, 0)
        diagonal = ((((match & plus) + plus) ^ plus) | match | minus) & full
        up, down = minus | (~(diagonal | plus) & full), plus & diagonal
        distance += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & full, (down << 1) & full
        plus, minus = down | (~(diagonal | up) & full), up & diagonal
    return distance


def _without_common_ends(a: str, b: str) -> tuple[str, str]:
    start = 0
    shorter = min(len(a), len(b))
    while start < shorter and a[start] == b[start]:
        start += 1
    end = 0
    while end < shorter - start and a[-1 - end] == b[-1 - end]:
        end += 1
    return a[start : len(a) - end], b[start : len(b) - end]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
