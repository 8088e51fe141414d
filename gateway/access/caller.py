"""Who is calling, once the key has been checked."""

from dataclasses import dataclass

SCOPES = (
    "inference",
    "feedback",
    "feedback:write_text",
    "feedback:delegate",
    "feedback:read",
    "annotate",
    "train",
    "promote",
    "admin",
)
DEFAULT_SCOPES = ("inference", "feedback", "feedback:write_text", "feedback:read")
"""What a new key may do unless told otherwise."""


@dataclass(frozen=True)
class Caller:
    """The key behind a call. Its project bounds everything it can see."""

    key_id: str
    project_id: str
    scopes: frozenset[str]
    name: str = ""

    def may(self, scope: str) -> bool:
        """Whether the key has this scope; `admin` has them all."""
        return scope in self.scopes or "admin" in self.scopes
