"""Spans arrive at a collector as OpenTelemetry's conventions for generative AI want them, without any prompt."""

import asyncio
import json
import subprocess
import sys
import time

import pytest

from gateway.access.caller import Caller
from gateway.commands.configuration import checked_settings
from gateway.errors import UpstreamError
from gateway.telemetry.traces import make_traces
from tests.gateway.telemetry.collector import collecting
from tests.patience import patient

CALLER = Caller("key_1", "proj_1", frozenset(), "laptop")
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_a_span_follows_the_conventions_and_stands_in_the_clients_trace() -> None:
    async with collecting() as collector:
        traces = make_traces(collector.url)
        span = traces.begin("assistant", CALLER, f"00-{TRACE_ID}-{PARENT_ID}-01")
        assert span is not None
        to_engine = span.traceparent
        span.end(
            status="finished",
            response_id="chatcmpl-1",
            response_model="assistant-1",
            finish_reasons=["stop", "length"],
            prompt_tokens=12,
            completion_tokens=34,
            first_chunk_seconds=0.25,
            engine_url="http://10.0.0.7:8001",
        )
        span.end(status="failed")  # once is enough
        await asyncio.to_thread(traces.close)
    (sent,) = collector.spans
    assert sent["attributes"] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "alignway",
        "gen_ai.request.model": "assistant",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "assistant-1",
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "server.address": "10.0.0.7",
        "server.port": 8001,
        "alignway.key.name": "laptop",
        "alignway.outcome": "finished",
    }
    client_kind = 3
    assert (sent["name"], sent["kind"], sent["error"]) == ("chat assistant", client_kind, False)
    assert (sent["trace_id"], sent["parent_id"]) == (TRACE_ID, PARENT_ID)
    assert to_engine == f"00-{TRACE_ID}-{sent['span_id']}-01"
    assert sent["service"] == "alignway-gateway"


async def test_a_failure_has_its_code_and_not_its_text() -> None:
    async with collecting() as collector:
        traces = make_traces(collector.url)
        for error in (UpstreamError("the prompt was: secret plan"), None):
            span = traces.begin("assistant", CALLER, None)
            assert span is not None
            span.end(status="failed", error=error)
        span = traces.begin("assistant", CALLER, None)
        assert span is not None
        span.end(status="aborted")
        await asyncio.to_thread(traces.close)
    named, nameless, aborted = collector.spans
    assert (named["error"], named["attributes"]["error.type"]) == (True, "upstream_error")
    assert (nameless["error"], nameless["attributes"]["error.type"]) == (True, "_OTHER")
    assert aborted["error"] is False
    assert "error.type" not in aborted["attributes"]
    assert "secret plan" not in json.dumps(collector.spans)


@pytest.mark.parametrize("nonsense", ["", "00-zz-zz-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 5000])
async def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(nonsense: str) -> None:
    async with collecting() as collector:
        traces = make_traces(collector.url)
        span = traces.begin("assistant", CALLER, nonsense)
        assert span is not None
        span.end(status="finished")
        await asyncio.to_thread(traces.close)
    (sent,) = collector.spans
    assert sent["parent_id"] == ""
    assert sent["trace_id"] != "0" * 32


async def test_what_the_client_does_not_sample_is_not_sent_but_passed_on() -> None:
    async with collecting() as collector:
        traces = make_traces(collector.url)
        span = traces.begin("assistant", CALLER, f"00-{TRACE_ID}-{PARENT_ID}-00")
        assert span is not None
        assert span.traceparent.startswith(f"00-{TRACE_ID}-")
        assert span.traceparent.endswith("-00")
        span.end(status="finished")
        await asyncio.to_thread(traces.close)
    assert collector.spans == []


def test_a_collector_that_is_not_there_holds_nothing_up() -> None:
    traces = make_traces("http://127.0.0.1:9")
    began = time.monotonic()
    span = traces.begin("assistant", CALLER, None)
    assert span is not None
    span.end(status="finished")
    assert time.monotonic() - began < patient(0.5)
    traces.close()
    assert time.monotonic() - began < patient(5)


def test_off_means_no_span_and_no_import() -> None:
    assert make_traces(None).begin("assistant", CALLER, None) is None
    code = "import sys, gateway.app; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_endpoint_without_the_packages_says_what_to_install() -> None:
    wanted = {"telemetry": {"otlp_endpoint": "http://127.0.0.1:4318"}}
    assert checked_settings(wanted).telemetry.otlp_endpoint == "http://127.0.0.1:4318"
    code = "import sys; sys.modules['opentelemetry'] = None; from gateway.commands.configuration import *; "
    without = [subprocess.run([sys.executable, "-c", f"{code} checked_settings({values})"], capture_output=True)
               for values in (wanted, {})]  # fmt: skip
    assert b"alignway[telemetry]" in without[0].stderr
    assert without[1].returncode == 0
