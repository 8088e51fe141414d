"""OpenAI's error envelope: `{"error": {"message", "type", "param", "code"}}`, and the headers that go with it."""

import math
from typing import Any

from gateway.errors import AlignwayError


def error_body(error: AlignwayError) -> dict[str, Any]:
    """The body that the openai SDK unwraps into its exception."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def error_headers(error: AlignwayError) -> dict[str, str]:
    """When to come again, whether the connection ends, and what else the error has to say in headers."""
    headers = dict(error.headers)
    if error.retry_after_seconds is not None:
        headers.setdefault("retry-after", str(math.ceil(error.retry_after_seconds)))
    if error.status == 408:
        headers["connection"] = "close"  # the rest of the body may still be on its way
    return headers
