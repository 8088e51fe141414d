"""One message of a chat, as stored and as trained on. Knows nothing about HTTP."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Role = Literal["system", "developer", "user", "assistant", "tool"]
ContentPart = dict[str, Any]


class Message(BaseModel):
    """A turn of a conversation. `reasoning` is what the model thought before it answered, kept apart from `content`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: str | tuple[ContentPart, ...] | None = None
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None

    @property
    def text(self) -> str:
        """The text of the message; text parts are joined, other parts left out."""
        return content_text(self.content)

    def template_dict(self) -> dict[str, Any]:
        """The message as a chat template takes it: `role`, `content` and whatever else is set, without reasoning."""
        shown = self.model_dump(exclude_none=True, exclude={"reasoning"})
        return shown | {"content": self.text}


def content_text(content: str | Sequence[ContentPart] | None) -> str:
    """The text of a message's `content`; text parts are joined, other parts left out."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content if part.get("type") == "text")
