"""Finds e-mail and network addresses. Pure."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from gateway.redaction.finding import Finding

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9-])"
)
_IPV4 = re.compile(r"(?<![A-Za-z0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![A-Za-z0-9]|\.[0-9])")
_VERSION_BEFORE = re.compile(r"(?i:version|ver|release|build|firmware|版本号?|固件)[\s:：是为#=./-]{0,4}\Z")
_LOOK_BACK = 16
"""Characters before four numbers in which a word can say that they are a version."""
_IPV6 = re.compile(r"(?<![A-Za-z0-9:.])[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{1,38}(?:\.[0-9]{1,3}){0,3}(?![A-Za-z0-9])")


def find_emails(text: str) -> Iterator[Finding]:
    """E-mail addresses."""
    if "@" in text:
        yield from (Finding(*match.span(), "EMAIL") for match in _EMAIL.finditer(text))


def find_networks(text: str) -> Iterator[Finding]:
    """IPv4 and IPv6 addresses; not those that mean the machine itself or everybody, nor version numbers."""
    for match in _IPV4.finditer(text):
        before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
        if _is_ipv4(match[0]) and not _VERSION_BEFORE.search(before):
            yield Finding(*match.span(), "IP")
    if ":" in text:
        for match in _IPV6.finditer(text):
            shown = match[0] if match[0].endswith("::") else match[0].rstrip(":")
            if _is_ipv6(shown):
                yield Finding(match.start(), match.start() + len(shown), "IP")


def _is_ipv4(text: str) -> bool:
    try:
        address = IPv4Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or int(address) == 0xFFFFFFFF)


def _is_ipv6(text: str) -> bool:
    # `a::b` is how programs name things, too: an address has a long first group and a digit.
    if len(text.split(":", 1)[0]) < 3 or not any(character.isdigit() for character in text):
        return False
    try:
        address = IPv6Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)
