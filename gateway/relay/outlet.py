"""Where the answer to one chat goes, whatever it is written to, and which errors may go there."""

from typing import Protocol

import structlog

from gateway.errors import AlignwayError

log = structlog.get_logger(__name__)


class Outlet(Protocol):
    """Takes one answer. Exactly one of `whole`, `end` and `failed` is called, once."""

    def whole(self, body: bytes) -> None:
        """The answer in one piece."""

    def event(self, data: bytes) -> None:
        """One or more server-sent events of a stream."""

    def end(self, data: bytes) -> None:
        """The last events; nothing comes after them."""

    def failed(self, error: AlignwayError) -> None:
        """There is no answer, or no more of it."""


def as_ours(error: Exception) -> AlignwayError:
    """Any error as one that a client may see; what we did not foresee goes to the log."""
    if isinstance(error, AlignwayError):
        return error
    log.error("unexpected_error", exc_info=error)
    return AlignwayError("Something went wrong inside Alignway; its log says what. Please report it.")
