"""A little OTLP/HTTP collector: keeps the spans it is sent, decoded."""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.loopback import listening


class Collector:
    """Takes `POST /v1/traces`."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("content-encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            of = {item.key: value_of(item.value) for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [plain(span) | {"service": of.get("service.name")} for span in scope.spans]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A running collector on loopback."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    async with listening(app) as collector.url:
        yield collector


def plain(span: Any) -> dict[str, Any]:
    """A span without protobuf."""
    return {
        "name": span.name,
        "kind": span.kind,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex(),
        "error": span.status.code == 2,
        "message": span.status.message,
        "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        "attributes": {item.key: value_of(item.value) for item in span.attributes},
    }


def value_of(value: Any) -> Any:
    """An attribute's value."""
    kind = value.WhichOneof("value")
    return [value_of(inner) for inner in value.array_value.values] if kind == "array_value" else getattr(value, kind)
