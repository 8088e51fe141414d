"""Traces of requests, for OpenTelemetry; off unless an endpoint is set, and then `begin` answers None."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

from gateway.errors import AlignwayError, StartupFailed

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


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

    def begin(self, model: str, caller: Named, traceparent: str | None, operation: str = "chat") -> Span | None:
        """A span for one request, child of the client's `traceparent` if that is one; None when tracing is off."""
        return None

    def close(self) -> None:
        """Send what is pending."""


def well_formed(traceparent: str | None) -> str | None:
    """The client's `traceparent`, to be passed on as it is where we trace nothing; None if it is none."""
    return traceparent if traceparent is not None and _TRACEPARENT.fullmatch(traceparent) else None


def make_traces(endpoint: str | None) -> Traces:
    """Traces to a collector, or off: then nothing of OpenTelemetry is loaded. See `require_packages`."""
    if endpoint is None:
        return Traces()
    from gateway.telemetry.otlp import OtlpTraces

    return OtlpTraces(endpoint)


def require_packages() -> None:
    """Raise `StartupFailed` if traces are wanted and cannot be sent."""
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http") and find_spec("opentelemetry.sdk")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise StartupFailed(
            "telemetry.otlp_endpoint is set, but OpenTelemetry is not installed: pip install 'alignway[telemetry]'.",
            code="package_missing",
        )
