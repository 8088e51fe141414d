"""A meter counts what it is told, in the right buckets."""

import pytest

from gateway.telemetry.meter import BUCKETS, DURATION_BOUNDS, FIRST_TOKEN_BOUNDS, OUTPUT_TOKEN_BOUNDS, WAIT_BOUNDS
from gateway.telemetry.metrics import Metrics
from tests.gateway.telemetry.reading import value

LABELS = {"alias": "assistant", "release": "assistant-1", "key": "laptop"}


def test_every_bucket_list_has_room_for_what_lies_above_it() -> None:
    for bounds in (FIRST_TOKEN_BOUNDS, OUTPUT_TOKEN_BOUNDS, DURATION_BOUNDS, WAIT_BOUNDS):
        assert len(bounds) + 1 == BUCKETS
        assert list(bounds) == sorted(set(bounds))


def test_a_stream_is_counted_with_tokens_first_token_and_time_per_token() -> None:
    metrics = Metrics()
    meter = metrics.meter("assistant", "assistant-1", "laptop")
    meter.began()
    assert value(metrics, "alignway_in_flight_requests", **LABELS) == 1
    meter.ended("finished", 12, 11, 0.2, 1.2)  # ten tokens in the second after the first: 0.1 s each
    assert value(metrics, "alignway_in_flight_requests", **LABELS) == 0
    assert value(metrics, "alignway_requests_total", **LABELS, outcome="finished") == 1
    assert value(metrics, "alignway_prompt_tokens_total", **LABELS) == 12
    assert value(metrics, "alignway_completion_tokens_total", **LABELS) == 11
    first, token, whole = (
        "alignway_time_to_first_token_seconds",
        "alignway_time_per_output_token_seconds",
        "alignway_request_duration_seconds",
    )
    assert value(metrics, f"{first}_bucket", **LABELS, le="0.1") == 0
    assert value(metrics, f"{first}_bucket", **LABELS, le="0.25") == 1
    assert value(metrics, f"{token}_sum", **LABELS) == pytest.approx(0.1)
    assert value(metrics, f"{whole}_bucket", **LABELS, le="1.0") == 0
    assert value(metrics, f"{whole}_bucket", **LABELS, le="2.5") == 1
    assert value(metrics, f"{whole}_count", **LABELS) == 1


def test_a_value_on_a_bound_belongs_below_it_and_one_above_all_is_in_the_last_bucket() -> None:
    metrics = Metrics()
    for seconds in (0.05, 641.0):
        meter = metrics.meter("assistant", "assistant-1", "laptop")
        meter.began()
        meter.ended("finished", 0, 0, None, seconds)
    name = "alignway_request_duration_seconds_bucket"
    assert value(metrics, name, **LABELS, le="0.05") == 1
    assert value(metrics, name, **LABELS, le="640.0") == 1
    assert value(metrics, name, **LABELS, le="+Inf") == 2


def test_a_whole_answer_has_no_first_token_and_one_token_no_time_per_token() -> None:
    metrics = Metrics()
    for first_chunk_seconds, tokens in ((None, 50), (0.1, 1)):
        meter = metrics.meter("assistant", "assistant-1", "laptop")
        meter.began()
        meter.ended("finished", 1, tokens, first_chunk_seconds, 1.0)
    assert value(metrics, "alignway_time_to_first_token_seconds_count", **LABELS) == 1
    assert value(metrics, "alignway_time_per_output_token_seconds_count", **LABELS) == 0


def test_outcomes_refusals_waits_and_lost_records_are_counted_apart() -> None:
    metrics = Metrics()
    for status in ("failed", "aborted", "failed"):
        meter = metrics.meter("assistant", "assistant-1", "laptop")
        meter.began()
        meter.ended(status, 0, 0, None, 0.1)
    metrics.refused(429, "queue_full")
    metrics.refused(429, "queue_full")
    metrics.refused(400, "invalid_value")
    metrics.queue_wait.observe(0.02)
    metrics.unrecorded.inc()
    assert value(metrics, "alignway_requests_total", **LABELS, outcome="failed") == 2
    assert value(metrics, "alignway_requests_total", **LABELS, outcome="aborted") == 1
    assert value(metrics, "alignway_refusals_total", status="429", code="queue_full") == 2
    assert value(metrics, "alignway_refusals_total", status="400", code="invalid_value") == 1
    assert value(metrics, "alignway_queue_wait_seconds_bucket", le="0.01") == 0
    assert value(metrics, "alignway_queue_wait_seconds_bucket", le="0.05") == 1
    assert value(metrics, "alignway_completions_unrecorded_total") == 1


def test_names_of_keys_may_hold_whatever_they_like() -> None:
    metrics = Metrics()
    name = 'a "quoted" \\ name\nof two lines {le="1"}'
    metrics.meter("assistant", "assistant-1", name).began()
    assert value(metrics, "alignway_in_flight_requests", alias="assistant", release="assistant-1", key=name) == 1
