"""Traces of requests, for OpenTelemetry; off unless an endpoint is set, and then `begin` answers None."""

from collections.abc import Sequence
from typing import Protocol

from gateway.errors import AlignwayError


class Named(Protocol):
    """Whoever calls, as far as a trace tells: the name of the key."""

    @property
    def name(self) -> str:
        """The key's name."""


class Span(Protocol):
    """One request in a trace, from its arrival to its end."""

    @property
    def traceparent(self) -> str:
        """The `traceparent` header that makes the engine's spans children of this one."""

    def end(
        self,
        *,
        status: str,
        response_id: str | None = None,
        response_model: str | None = None,
        finish_reasons: Sequence[str] = (),
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        first_chunk_seconds: float | None = None,
        error: AlignwayError | None = None,
        engine_url: str | None = None,
    ) -> None:
        """The request is over, as `finished`, `failed` or `aborted`; further calls do nothing."""


class Traces:
    """Begins spans. This one is off."""

    def begin(self, model: str, caller: Named, traceparent: str | None) -> Span | None:
        """A span for one request, child of the client's `traceparent`; None when tracing is off."""
        return None

    def close(self) -> None:
        """Send what is pending."""
