"""Traces over OTLP/HTTP, after OpenTelemetry's conventions for generative AI. Imported only when an endpoint is set.

Knows attributes and identifiers, but no prompt and no answer.
"""

import threading
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gateway.errors import AlignwayError
from gateway.telemetry.traces import Named, Span, Traces

EXPORT_TIMEOUT_SECONDS = 5.0
CLOSE_SECONDS = 3.0
"""A collector that does not answer holds up the end of a worker no longer than this."""
MODEL_CHARACTERS = 200
_contexts = TraceContextTextMapPropagator()


class OtlpTraces(Traces):
    """Sends spans to a collector, in batches, from a thread of its own."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint` is the collector's base address, such as `http://localhost:4318`."""
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_SECONDS)
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("alignway")

    def begin(self, model: str, caller: Named, traceparent: str | None, operation: str = "chat") -> Span:
        """As in `Traces`; never None."""
        model = model[:MODEL_CHARACTERS]
        span = self._tracer.start_span(
            f"{operation} {model}",
            context=_contexts.extract({"traceparent": traceparent}) if traceparent else None,
            kind=trace.SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": "alignway",
                "gen_ai.request.model": model,
                "alignway.key.name": caller.name,
            },
        )
        return _OtlpSpan(span)

    def close(self) -> None:
        """Send what is pending, if the collector takes it soon."""
        closing = threading.Thread(target=self._provider.shutdown, name="close traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class _OtlpSpan:
    """One span, over OpenTelemetry's own."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """The header for the engine."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

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
        """Note what became of the request, and end the span."""
        if not self._span.is_recording():
            return
        known: dict[str, AttributeValue | None] = {
            "alignway.outcome": status,
            "gen_ai.response.id": response_id,
            "gen_ai.response.model": response_model,
            "gen_ai.response.finish_reasons": tuple(finish_reasons) or None,
            "gen_ai.usage.input_tokens": prompt_tokens,
            "gen_ai.usage.output_tokens": completion_tokens,
            "gen_ai.response.time_to_first_chunk": first_chunk_seconds,
            **_address(engine_url),
        }
        if error is not None or status == "failed":
            # The text of an error may quote the request: its code says enough.
            known["error.type"] = "_OTHER" if error is None else error.code
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.set_attributes({name: value for name, value in known.items() if value is not None})
        self._span.end()


def _address(url: str | None) -> Mapping[str, AttributeValue | None]:
    parts = urlsplit(url or "")
    return {"server.address": parts.hostname, "server.port": parts.port}


def _resource() -> Resource:
    """What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say, and our name if they give none."""
    found = Resource.create()
    unnamed = str(found.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service")
    return found.merge(Resource({SERVICE_NAME: "alignway-gateway"})) if unnamed else found
