"""Who takes in what an engine replies, as a connection sees it."""

from typing import Protocol

from gateway.errors import AlignwayError


class Receiver(Protocol):
    """Who gets a reply. After `reply_ended` or `reply_failed` nothing more comes."""

    def reply_began(self, status: int) -> None:
        """The head of the reply is there."""

    def reply_data(self, data: bytes) -> None:
        """Some of its body."""

    def reply_ended(self) -> None:
        """All of its body has come."""

    def reply_failed(self, error: AlignwayError) -> None:
        """It will not come, or not to its end."""
