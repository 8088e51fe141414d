"""OpenAI's error envelope: `{"error": {"message", "type", "param", "code"}}`."""

from typing import Any

from gateway.errors import AlignwayError


def error_body(error: AlignwayError) -> dict[str, Any]:
    """The body that the openai SDK unwraps into its exception."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
