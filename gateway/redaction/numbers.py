"""Finds accounts, cards, ids, phone numbers, plates and record numbers, in English and Chinese texts. Pure.

A number counts by its checksum where its kind has one; where it has none, by its shape or by the word before it.
Every repetition in a pattern is bounded, so no text takes long.
"""

import re
from collections.abc import Iterator

from gateway.redaction.checksums import iban_length, is_iban, is_old_resident_id, is_resident_id, passes_luhn
from gateway.redaction.finding import Finding

_IBAN_HEAD = re.compile(r"(?<![A-Za-z0-9])(?P<country>[A-Za-z]{2})[0-9]{2}(?=[ -]?[A-Za-z0-9])")
_CARD = re.compile(
    r"(?<![A-Za-z0-9])(?<![0-9][.,])(?<![A-Za-z]{2}[0-9]{2}[ -])[2-69]"
    r"(?:[ -]?[0-9]){12,18}(?![ -]?[0-9])(?![A-Za-z]|[.,][0-9])"
)
_CARD_ISSUERS = re.compile(
    r"4|5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720|3[47]|30[0-5]|3[689]|35[2-8]|60|62|64[4-9]|65|9558|9559"
)
"""Leading digits of Visa, Mastercard, American Express, Diners, JCB, Discover, UnionPay, older Chinese bank cards."""
_ACCOUNT = re.compile(
    r"(?:(?:银行|储蓄|信用|借记)卡(?:卡?号码?)?|(?:银行|开户|收款|付款)(?:账|帐)[号户]|卡号|"
    r"(?i:(?<![A-Za-z])(?:bank )?account (?:number|no\.?)))"
    r"[\s:：是为#=]{0,4}(?P<item>[0-9](?:[ -]?[0-9]){9,20})(?![ -]?[0-9])"
)
_RESIDENT = re.compile(
    r"(?<![A-Za-z0-9])[1-9][0-9]{5} ?(?:18|19|20)[0-9]{2}[01][0-9][0-3][0-9] ?[0-9]{3}[0-9Xx](?![A-Za-z0-9])"
)
_OLD_RESIDENT = re.compile(r"身份证(?:件)?(?:号码?)?[\s:：是为#=]{0,4}(?P<item>[1-9][0-9]{14})(?![A-Za-z0-9])")
_PHONE = re.compile(
    r"(?<![A-Za-z0-9])(?<![0-9][.])(?:"
    r"(?:(?:\+|00)86[ -]?)?1[3-9][0-9](?:[ -]?[0-9]{4}){2}"  # mobile in mainland China
    r"|(?<![+])\+[1-9](?:[ .()-]{0,2}[0-9]){7,14}"  # international
    r"|(?:\+?1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])[2-9][0-9]{2}[ .-][0-9]{4}"  # North America
    r"|\(?0[1-9][0-9]{1,2}(?:[- ]|\) ?)[2-8][0-9]{6,7}"  # landline in mainland China
    r"|0[1-9][0-9]{1,3}[ -][0-9]{3,4}[ -][0-9]{3,4}"  # elsewhere, with the leading zero
    r")(?![A-Za-z0-9])(?![.-][0-9])"
)
_LABELLED_PHONE = re.compile(
    r"(?:(?i:(?<![A-Za-z])(?:tel|telephone|phone|mobile|cell|fax|whatsapp)(?: (?:number|no\.?))?)"
    r"|电话|手机|座机|传真|联系方式)"
    r"(?:号码?)?[\s:：是为#=.]{0,4}(?P<item>[+(]?[0-9](?:[ ()-]{0,2}[0-9]){6,14})(?![A-Za-z0-9])(?!-[0-9])"
)
_PLATE = re.compile(
    "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼使领]"
    r"(?i:[A-HJ-NP-Z])[·•・. -]?"
    r"(?P<number>(?i:[A-HJ-NP-Z0-9]{4}[挂学警港澳试超]|[A-HJ-NP-Z0-9]{5,6}(?![A-Za-z0-9])))"
)
_PLATE_DIGITS = 3
"""A plate has at least so many digits; a word of capitals behind the name of a province has none."""
_RECORD = re.compile(
    r"(?:(?:病历|病案|病例|住院|门诊|就诊|就诊卡|挂号|医保|医保卡|社保|社保卡|检查|检验|影像|登记|护照|通行证|军官证|驾驶证|"
    r"行驶证|学籍|工作证|保单)(?:编?号码?|ID)"
    r"|(?i:(?<![A-Za-z])(?:MRN|medical record|patient|admission|hospital|health card|health insurance|insurance|policy|"
    r"passport|NHS|social security|driver'?s licen[cs]e)(?: (?:id|number|no\.?|#))|(?<![A-Za-z])(?:MRN|SSN)))"
    r"(?: is|[\s:：是为#=]){0,4}(?P<item>[A-Za-z0-9](?:[ -]?[A-Za-z0-9/]){3,29})(?![A-Za-z0-9])"
)
_RECORD_VALUE = re.compile(r"[A-Za-z0-9/-]{0,30}[0-9][A-Za-z0-9/-]{0,30}(?: [0-9]{2,6}){0,4}")
_RECORD_DIGITS = 3


def find_ibans(text: str) -> Iterator[Finding]:
    """International bank account numbers, by country's length and check digits."""
    for head in _IBAN_HEAD.finditer(text):
        wanted = iban_length(head["country"])
        if wanted is None:
            continue
        compact, end = _take(text, head.start(), wanted)
        ends_there = not text[end : end + 1].isascii() or not text[end : end + 1].isalnum()
        if len(compact) == wanted and ends_there and is_iban(compact):
            yield Finding(head.start(), end, "IBAN")


def find_resident_ids(text: str) -> Iterator[Finding]:
    """Ids of residents of mainland China."""
    for match in _RESIDENT.finditer(text):
        if is_resident_id(match[0].replace(" ", "")):
            yield Finding(*match.span(), "RESIDENT_ID")
    for match in _OLD_RESIDENT.finditer(text):
        if is_old_resident_id(match["item"]):
            yield Finding(*match.span("item"), "RESIDENT_ID")


def find_records(text: str) -> Iterator[Finding]:
    """Numbers of medical and other records, by the words before them."""
    for match in _RECORD.finditer(text):
        value = _RECORD_VALUE.match(match["item"])
        if value is not None and sum(character.isdigit() for character in value[0]) >= _RECORD_DIGITS:
            start = match.start("item")
            yield Finding(start, start + len(value[0].rstrip("/-")), "RECORD")


def find_accounts(text: str) -> Iterator[Finding]:
    """Bank accounts and cards, by the words before them: they need no checksum."""
    yield from (Finding(*match.span("item"), "ACCOUNT") for match in _ACCOUNT.finditer(text))


def find_cards(text: str) -> Iterator[Finding]:
    """Payment and bank cards, by issuer and Luhn."""
    for match in _CARD.finditer(text):
        digits = match[0].replace(" ", "").replace("-", "")
        if _CARD_ISSUERS.match(digits) and passes_luhn(digits):
            yield Finding(*match.span(), "CARD")


def find_phones(text: str) -> Iterator[Finding]:
    """Phone numbers, by shape or by the word before them."""
    yield from (Finding(*match.span(), "PHONE") for match in _PHONE.finditer(text))
    yield from (Finding(*match.span("item"), "PHONE") for match in _LABELLED_PHONE.finditer(text))


def find_plates(text: str) -> Iterator[Finding]:
    """Licence plates of mainland China."""
    for match in _PLATE.finditer(text):
        if sum(character.isdigit() for character in match["number"]) >= _PLATE_DIGITS:
            yield Finding(*match.span(), "PLATE")


def _take(text: str, start: int, wanted: int) -> tuple[str, int]:
    """Up to `wanted` letters and digits from `start` on, single spaces and hyphens left out; and where they end."""
    taken: list[str] = []
    at = start
    while len(taken) < wanted and at < len(text):
        character = text[at]
        if character.isascii() and character.isalnum():
            taken.append(character)
        elif character not in " -" or text[at - 1] in " -":
            break
        at += 1
    return "".join(taken), at
