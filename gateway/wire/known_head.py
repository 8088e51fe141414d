"""Heads of requests and replies that came before are recognised by their bytes, and not parsed anew. Pure.

Clients that keep a connection write the same head for each request, but for the length of the body; so do engines.
"""

END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length: "
MAX_DIGITS = 10
LESSONS = 3
LEARN_SECONDS = 0.25
"""Replies are looked at this often: where each has another head, that costs next to nothing."""


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


class HeadMemory:
    """The head of a client's last request. What always differs is not remembered for ever: it would only cost time."""

    __slots__ = ("_come", "_known", "_lessons")

    def __init__(self) -> None:
        self._known: KnownHead | None = None
        self._come = b""
        self._lessons = LESSONS

    def body_behind(self, data: bytes) -> bytes | None:
        """The body, if `data` is a request like the last one. It begins where the last one ended."""
        known = None if self._known is None else self._known.body_behind(data)
        if known is None and self._lessons:
            self._come = data
        return known

    def pass_over(self) -> None:
        """What comes does not begin with a request, or is not to be remembered."""
        self._come = b""

    def forget(self) -> None:
        """Another request is parsed."""
        self._known = None

    def learn(self) -> None:
        """The parser took a request that came in one block, and that the next one may be like."""
        if self._come:
            self._known, self._come = known_head(self._come), b""
            self._lessons -= 1


class ReplyMemory:
    """The head of an engine's replies, which may hold the time of day, and so lasts for a second at best."""

    __slots__ = ("_known", "_learnt_at")

    def __init__(self) -> None:
        self._known: KnownHead | None = None
        self._learnt_at = 0.0

    def body_behind(self, data: bytes) -> bytes | None:
        """The body of a whole reply that begins as one has before; None: parse it."""
        return None if self._known is None else self._known.body_behind(data)

    def learn(self, reply: bytes, now: float) -> None:
        """The parser took this whole reply, after which the connection can be used again."""
        if now > self._learnt_at + LEARN_SECONDS and reply.startswith(b"HTTP/1.1 200 "):
            self._known, self._learnt_at = known_head(reply), now
