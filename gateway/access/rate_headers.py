"""`x-ratelimit-*` headers as OpenAI spells them."""

from gateway.access.caller import KeyLimits

Headers = tuple[tuple[str, str], ...]


def duration(seconds: float) -> str:
    """`120ms`, `8.64s`, `6m0s` or `1h0m0s`."""
    milliseconds = max(0, round(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    spelt = f"{milliseconds / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{spelt}"
    return f"{minutes}m{spelt}" if minutes else spelt


def rate_headers(kind: str, limit: int | None, remaining: int, reset: str) -> Headers:
    """The three headers of one kind of limit (`requests` or `tokens`); none without a limit."""
    if limit is None:
        return ()
    return (
        ("x-ratelimit-limit-" + kind, str(limit)),
        ("x-ratelimit-remaining-" + kind, str(remaining if remaining > 0 else 0)),
        ("x-ratelimit-reset-" + kind, reset),
    )


class HeaderLines:
    """The same headers as lines of HTTP, for requests that are let in: on the path of every answer of a limited key."""

    __slots__ = ("_form", "_requests", "_tokens")

    def __init__(self, limits: KeyLimits, reset: str) -> None:
        """`reset`: when the limits are whole again."""
        self._requests, self._tokens = limits.requests_per_minute is not None, limits.tokens_per_minute is not None
        kinds = (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute))
        headers = [header for kind, limit in kinds for header in rate_headers(kind, limit, 0, reset)]
        lines = [f"{name}: {'%d' if '-remaining-' in name else value}\r\n" for name, value in headers]
        self._form = "".join(lines).encode()

    def lines(self, requests: int, tokens: int) -> bytes:
        """With what is left of each; less than nothing is told as nothing."""
        requests, tokens = requests if requests > 0 else 0, tokens if tokens > 0 else 0
        if self._requests:
            return self._form % ((requests, tokens) if self._tokens else requests)
        return self._form % tokens if self._tokens else b""


def headers_of(lines: bytes) -> Headers:
    """Header lines as pairs."""
    pairs = (line.partition(": ") for line in lines.decode("latin-1").split("\r\n") if line)
    return tuple((name, value) for name, _, value in pairs)
