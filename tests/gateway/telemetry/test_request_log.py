"""As many lines as asked for, with what is needed to find a request, and no prompt unless that was asked for too."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.errors import AlignwayError, UpstreamError
from gateway.settings import TelemetrySettings
from gateway.telemetry.request_log import RequestLog


def lines(settings: TelemetrySettings, status: str, error: AlignwayError | None = None) -> list[Any]:
    with capture_logs() as captured:
        RequestLog(settings).ended(
            status,
            completion_id="chatcmpl-1",
            alias="assistant",
            release="assistant-1",
            key_name="laptop",
            prompt_tokens=3,
            completion_tokens=5,
            first_chunk_seconds=0.25,
            total_seconds=1.5,
            error=error,
            prompt=lambda: "the prompt",
        )
    return captured


@pytest.mark.parametrize(
    ("wanted", "finished", "aborted", "failed"), [("off", 0, 0, 0), ("errors", 0, 0, 1), ("all", 1, 1, 1)]
)
def test_as_many_lines_as_asked_for(wanted: Any, finished: int, aborted: int, failed: int) -> None:
    settings = TelemetrySettings(request_log=wanted)
    assert len(lines(settings, "finished")) == finished
    assert len(lines(settings, "aborted")) == aborted
    assert len(lines(settings, "failed", UpstreamError("no"))) == failed


def test_a_line_names_request_and_cost_and_neither_prompt_nor_the_text_of_the_error() -> None:
    assert lines(TelemetrySettings(), "failed", UpstreamError("the engine said: secret plan")) == [
        {
            "event": "request_ended",
            "log_level": "warning",
            "status": "failed",
            "completion_id": "chatcmpl-1",
            "alias": "assistant",
            "release": "assistant-1",
            "key": "laptop",
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "first_chunk_seconds": 0.25,
            "total_seconds": 1.5,
            "http_status": 502,
            "code": "upstream_error",
        }
    ]


def test_a_prompt_is_logged_only_if_asked_for() -> None:
    (line,) = lines(TelemetrySettings(request_log="all", log_prompts=True), "finished")
    assert line["prompt"] == "the prompt"
    (line,) = lines(TelemetrySettings(request_log="all"), "finished")
    assert "prompt" not in line
