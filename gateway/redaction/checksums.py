"""Checksums that tell a number of a kind from any other number. Pure."""

from datetime import date

_RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_RESIDENT_CHECKS = "10X98765432"
_PROVINCES = frozenset((11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46, 50, 51, 52,
                        53, 54, 61, 62, 63, 64, 65, 71, 81, 82, 83))  # fmt: skip
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24,
    "XK": 20,
}  # fmt: skip


def passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812: counted from the right, every second digit doubled, the sum of all digits ends in 0."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_length(country: str) -> int | None:
    """How many characters an account number of that country has; None if it has no IBAN."""
    return _IBAN_LENGTHS.get(country.upper())


def is_iban(compact: str) -> bool:
    """ISO 13616: the first four characters moved to the end, letters as 10 to 35, the rest by 97 is 1."""
    turned = (compact[4:] + compact[:4]).upper()
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def is_resident_id(compact: str) -> bool:
    """GB 11643: 18 characters; a province, a day of birth, and the check character by weights modulo 11."""
    if int(compact[:2]) not in _PROVINCES or not _is_day(compact[6:14]):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(compact, _RESIDENT_WEIGHTS, strict=False))
    return _RESIDENT_CHECKS[total % 11] == compact[17].upper()


def is_old_resident_id(compact: str) -> bool:
    """The 15 digits of before 1999: no check digit, but a province and a day of birth."""
    return int(compact[:2]) in _PROVINCES and _is_day("19" + compact[6:12])


def _is_day(eight_digits: str) -> bool:
    try:
        date(int(eight_digits[:4]), int(eight_digits[4:6]), int(eight_digits[6:]))
    except ValueError:
        return False
    return True
