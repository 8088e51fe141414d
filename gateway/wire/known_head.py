"""The head of a request that came before on the same connection, recognised by its bytes, so as not to parse it anew.

Clients that keep a connection write the same head for each request, but for the length of the body. Pure.
"""

END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length: "
MAX_DIGITS = 10


class KnownHead:
    """A head as it was parsed once; only its length may differ."""

    __slots__ = ("_after", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        """`before` and `after` the digits of the length; `after` goes on to the end of the head."""
        self._before, self._after = before, after

    def body_behind(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole request with this head; None: parse it."""
        if not data.startswith(self._before):
            return None
        at = len(self._before)
        end = data.find(b"\r", at, at + MAX_DIGITS)
        if end < 0 or not data.startswith(self._after, end):
            return None
        digits, body_at = data[at:end], end + len(self._after)
        return data[body_at:] if digits.isdigit() and int(digits) == len(data) - body_at else None


def known_head(data: bytes) -> KnownHead | None:
    """The head of a whole request that the parser has just taken; None if it could be mistaken for another one."""
    head, found, body = data.partition(END)
    lines, lower = head.count(b"\r\n"), head.lower()
    if not found or head.count(b"\n") != lines or head.count(b"\r") != lines:
        return None
    if lower.count(b"content-length") != 1 or b"transfer-encoding" in lower:
        return None
    at = lower.find(LENGTH) + len(LENGTH)
    known = KnownHead(data[:at], data[data.find(b"\r", at) : len(head) + len(END)])
    return known if at >= len(LENGTH) and known.body_behind(data) == body else None
