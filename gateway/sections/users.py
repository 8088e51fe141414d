"""Settings of how a trusted client names the people it asks for."""

import re

from pydantic import Field, field_validator

from gateway.sections.section import Section

_NAME = re.compile(r"[a-z0-9-]{1,64}")


class UserSettings(Section):
    """Headers in which a key with the scope `feedback:delegate` names end users; those of other keys are not read."""

    header: str | None = None
    """Names the end user of a chat, and the rater of a vote, such as `x-openwebui-user-id`. It goes before the
    body's word."""
    metadata_headers: dict[str, str] = Field(default={}, max_length=8)
    """Header to metadata, such as `{"x-openwebui-message-id" = "message_id"}`: stored as if the body's `metadata` said
    it, so that a vote can find the completion by it."""

    @field_validator("header")
    @classmethod
    def _is_a_header(cls, value: str | None) -> str | None:
        return value if value is None else _header_name(value)

    @field_validator("metadata_headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        if any(not 1 <= len(name) <= 64 for name in value.values()):
            raise ValueError("a metadata name has 1 to 64 characters")
        return {_header_name(header): name for header, name in value.items()}


def _header_name(value: str) -> str:
    name = value.lower()
    if not _NAME.fullmatch(name) or name in ("authorization", "cookie"):
        raise ValueError(f"{value!r} is no header that can name a user")
    return name
