"""`x-ratelimit-*` headers as OpenAI spells them."""

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
