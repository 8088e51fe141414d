"""What can become of a request at an engine, sorted by what it allows: to send it again, and how often."""

from gateway.errors import Overloaded, Unavailable, UpstreamError


class NothingGenerated(UpstreamError):
    """No byte of an answer came: the request may be sent again, to this replica or another."""

    max_attempts = 1
    """How often one request may meet this error before it is given up."""


class UpstreamUnreachable(NothingGenerated):
    """The engine took no connection: the request never left."""

    code, max_attempts = "upstream_unreachable", 5


class NotSent(NothingGenerated):
    """The gateway kept the request back: while it connected, what it knows of the engines grew old. Look again."""

    code, max_attempts = "upstream_not_sent", 5


class ReleaseNotHeld(NothingGenerated):
    """The engine does not hold the release any longer, or not yet; whatever else it holds, it serves."""

    code, max_attempts = "upstream_release_not_held", 5


class UpstreamDisconnected(NothingGenerated):
    """The engine hung up on the request. It may be the request that kills engines: it gets one more, not all."""

    code, max_attempts = "upstream_disconnected", 2


class UpstreamBrokeOff(UpstreamError):
    """The connection was gone in the middle of an answer: the engine may have ended."""

    def __init__(self) -> None:
        super().__init__("The engine broke off. The answer is incomplete; ask again.")


class UpstreamUnavailable(NothingGenerated):
    """The engine says that it cannot answer now: asleep, stopping, or out of workers."""

    status, code, max_attempts = Unavailable.status, "upstream_unavailable", 2
    retry_after_seconds = Unavailable.retry_after_seconds


class UpstreamOverloaded(NothingGenerated):
    """The engine says that it has too much to do; another replica may have less."""

    status, type, code, max_attempts = Overloaded.status, Overloaded.type, "upstream_overloaded", 2
    retry_after_seconds = Overloaded.retry_after_seconds
