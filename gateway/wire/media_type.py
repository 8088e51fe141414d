"""Which bodies are taken: JSON, sent as it is."""

from gateway.errors import UnsupportedMediaType

TAKEN = ("", "application/json", "application/x-www-form-urlencoded")
"""`curl -d` calls its body a form, and means JSON; a real form is refused as invalid JSON."""


def require_json(content_type: str | None, content_encoding: str | None) -> None:
    """Raise `UnsupportedMediaType` for a body that says it is something else than JSON, or is compressed."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind not in TAKEN and not kind.endswith("+json"):
        raise UnsupportedMediaType(f"The body is {kind[:100]!r}; send JSON with `content-type: application/json`.")
    if (content_encoding or "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("The body is compressed; send it as it is, without `content-encoding`.")
