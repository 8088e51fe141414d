"""One answer of the served model, as the demo keeps it. Pure."""

from dataclasses import dataclass

from gateway.demo.style import keeps_style, word_count


@dataclass(frozen=True)
class Answer:
    """The text of one choice, how it ended, and the release that says it wrote it."""

    completion_id: str
    index: int
    text: str
    finish_reason: str | None
    release_id: str | None

    @property
    def in_style(self) -> bool:
        """Whether it keeps the house style."""
        return keeps_style(self.text, self.finish_reason)

    @property
    def words(self) -> int:
        """Its length in words."""
        return word_count(self.text)
