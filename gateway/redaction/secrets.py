"""Finds keys and tokens by the shapes their issuers gave them: prefixes, JSON web tokens, PEM blocks. Pure."""

import re
from collections.abc import Iterator

from gateway.redaction.finding import Finding

KIND = "SECRET"

_SHAPES = (
    r"sk-[A-Za-z0-9_-]{20,250}",  # OpenAI, Anthropic, DeepSeek, and keys of this gateway
    r"gh[pousr]_[A-Za-z0-9]{30,250}",
    r"github_pat_[A-Za-z0-9_]{22,250}",
    r"glpat-[A-Za-z0-9_-]{20,64}",
    r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    r"AIza[0-9A-Za-z_-]{35}",
    r"ya29\.[0-9A-Za-z_-]{20,250}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",
    r"hf_[A-Za-z0-9]{30,64}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[A-Za-z0-9_-]{50,250}",
    r"[spr]k_(?:live|test)_[A-Za-z0-9]{16,128}",
    r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}",
    r"dop_v1_[a-f0-9]{64}",
    r"LTAI[A-Za-z0-9]{12,30}",  # Alibaba Cloud
    r"AKID[A-Za-z0-9]{13,40}",  # Tencent Cloud
    r"eyJ[A-Za-z0-9_-]{8,4096}\.eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,2048}",  # JSON web token
)
_PREFIXED = re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(_SHAPES)})(?![A-Za-z0-9_-])")
_BEARER = re.compile(r"(?<![A-Za-z])[Bb]earer[ \t]{1,4}(?P<item>[A-Za-z0-9._~+/-]{16,4096}={0,2})")
_PEM_BEGIN = re.compile(r"-----BEGIN (?P<label>[A-Z0-9 ]{1,40})-----")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/=\s]*")


def find_secrets(text: str) -> Iterator[Finding]:
    """Keys and tokens."""
    yield from _pem_blocks(text)
    yield from (Finding(*match.span(), KIND) for match in _PREFIXED.finditer(text))
    for match in _BEARER.finditer(text):
        if any(character.isdigit() for character in match["item"]):
            yield Finding(*match.span("item"), KIND)


def _pem_blocks(text: str) -> Iterator[Finding]:
    """From BEGIN to its END; a block that was cut off: as far as it looks like one."""
    done, endless = 0, set()
    for begin in _PEM_BEGIN.finditer(text):
        if begin.start() < done:
            continue
        closing = f"-----END {begin['label']}-----"
        at = -1 if closing in endless else text.find(closing, begin.end())
        if at >= 0:
            done = at + len(closing)
        else:
            endless.add(closing)  # nor is there one further on: the text is not searched again
            body = _PEM_BODY.match(text, begin.end())
            done = begin.end() if body is None else body.end()
        yield Finding(begin.start(), done, KIND)
